"""The example app: every page answers from the seeded data, and mistakes are answered as mistakes.

Over a real server, so that nothing of the app runs, or is instrumented, in the tests' own process.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from examples.restaurant import seed
from tests.support.servers import Server

BRANCH = 2
DATA: dict[str, list[dict[str, Any]]] = {table.__tablename__: rows for table, rows in seed.rows()}
MONDAY = seed.FIRST_DAY.isoformat()


def place_order(restaurant: Server, dishes: list[int], branch: int = BRANCH) -> dict[str, Any]:
    answer = restaurant.request(
        "POST", "/orders", json={"branch_id": branch, "guest_name": "Ada", "dishes": dishes}
    )
    assert answer.status_code == 201, answer.text
    order: dict[str, Any] = answer.json()
    return order


def test_the_front_page_lists_every_branch(restaurant: Server) -> None:
    page = restaurant.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert all(branch["name"] in page.text for branch in DATA["branches"])


def test_branches(restaurant: Server) -> None:
    assert restaurant.get("/branches").json() == DATA["branches"]
    staff = restaurant.get(f"/branches/{BRANCH}").json()["staff"]
    assert sum(staff.values()) == seed.USERS_A_BRANCH


def test_users_by_role_and_branch(restaurant: Server) -> None:
    found = restaurant.get(f"/users?role=cook&branch={BRANCH}").json()
    expected = {u["id"] for u in DATA["users"] if u["role"] == "cook" and u["branch_id"] == BRANCH}
    assert {user["id"] for user in found} == expected != set()


def test_users_come_in_pages(restaurant: Server) -> None:
    first, second = restaurant.get("/users").json(), restaurant.get("/users?page=1").json()
    assert len(first) == len(second) == 50
    assert {u["id"] for u in first}.isdisjoint(u["id"] for u in second)


def test_a_user_by_number_and_by_email(restaurant: Server) -> None:
    user = DATA["users"][6]
    by_number = restaurant.get(f"/users/{user['id']}").json()
    assert by_number["email"] == user["email"]
    assert restaurant.get(f"/users/by-email/{user['email']}").json() == by_number


def test_an_email_address_is_taken_once(restaurant: Server) -> None:
    user = {"email": "new@trattoria.example", "full_name": "New Hire", "role": "cook", "branch_id": BRANCH}
    assert restaurant.request("POST", "/users", json=user).status_code == 201
    assert restaurant.request("POST", "/users", json=user).status_code == 409


def test_schedules_of_a_day_and_a_user(restaurant: Server) -> None:
    user = next(s["user_id"] for s in DATA["schedules"] if s["date"] == seed.FIRST_DAY)
    [shift] = restaurant.get(f"/schedules?date={MONDAY}&user={user}").json()
    assert shift["name"] == DATA["users"][user - 1]["full_name"]


def test_a_shift_moves_to_a_colleague_and_to_nobody_else(restaurant: Server) -> None:
    shift = restaurant.get("/schedules?user=41").json()[0]  # of branch 2, like 42 and unlike 1
    assert restaurant.request("PUT", f"/schedules/{shift['id']}?to=42").json()["user_id"] == 42
    assert restaurant.request("PUT", f"/schedules/{shift['id']}?to=1").status_code == 409
    assert restaurant.request("PUT", f"/schedules/{shift['id']}?to=41").json()["user_id"] == 41


def test_the_menu_by_section_and_a_new_price(restaurant: Server) -> None:
    pizza = restaurant.get("/menu?section=pizza").json()
    assert [item["name"] for item in pizza] == list(seed.MENU["pizza"])
    assert restaurant.request("PATCH", "/menu/30", json={"price_cents": 999}).json()["price_cents"] == 999
    assert 999 in [item["price_cents"] for item in restaurant.get("/menu").json()]


def test_every_third_of_a_dish_is_on_the_house(restaurant: Server) -> None:
    soup, bread = (DATA["menu_items"][n]["price_cents"] for n in (1, 5))
    order = place_order(restaurant, [2, 2, 2, 2, 6])
    assert order["total_cents"] == 3 * soup + bread
    lines = restaurant.get(f"/orders/{order['id']}").json()["lines"]
    assert sorted((line["dish"], line["quantity"]) for line in lines) == [("Focaccia", 1), ("Tomato soup", 4)]


def test_orders_by_branch_and_status_newest_first(restaurant: Server) -> None:
    found = restaurant.get(f"/orders?branch={BRANCH}&status=paid").json()
    assert found
    assert {(o["branch_id"], o["status"]) for o in found} == {(BRANCH, "paid")}
    assert [o["created_at"] for o in found] == sorted((o["created_at"] for o in found), reverse=True)


def test_payment_works_but_for_every_fifth_order(restaurant: Server) -> None:
    statuses = {}
    for order in [place_order(restaurant, [1]) for _ in range(5)]:
        close = {"connection": "close"}  # as the server will, after an error that nobody caught
        answer = restaurant.request("POST", f"/orders/{order['id']}/payment", headers=close)
        after = restaurant.get(f"/orders/{order['id']}").json()["status"]
        statuses[order["id"] % 5] = (answer.status_code, after)
    assert statuses == {0: (500, "open"), **dict.fromkeys(range(1, 5), (200, "paid"))}


def test_the_export_streams_all_orders(restaurant: Server) -> None:
    with restaurant.client.stream("GET", "/orders/export") as answer:
        assert "content-length" not in answer.headers
        numbers = [json.loads(text)["id"] for text in answer.iter_lines()]
    assert numbers[: len(DATA["orders"])] == [order["id"] for order in DATA["orders"]]


def test_the_roster_names_those_of_the_branch_who_work_that_day(restaurant: Server) -> None:
    at_work = {s["user_id"] for s in DATA["schedules"] if s["date"] == seed.FIRST_DAY}
    expected = [u["full_name"] for u in DATA["users"] if u["branch_id"] == 3 and u["id"] in at_work]
    roster = restaurant.get(f"/reports/roster/3?date={MONDAY}").json()
    assert sorted(person["name"] for person in roster["people"]) == sorted(expected) != []


def test_search_finds_guests_and_staff_by_part_of_a_name(restaurant: Server) -> None:
    found = restaurant.get("/reports/search?q=OSTA").json()
    assert found["guests"]
    assert found["staff"]
    assert all("osta" in name.lower() for name in found["guests"] + found["staff"])


def test_bestsellers_are_those_ordered_together_most_often(restaurant: Server) -> None:
    pairs = restaurant.get("/reports/bestsellers").json()
    assert len(pairs) == 10
    times = [pair["times"] for pair in pairs]
    assert times == sorted(times, reverse=True)


def test_suppliers_price_every_section(restaurant: Server) -> None:
    assert restaurant.get("/reports/suppliers").json().keys() == seed.MENU.keys()


@pytest.fixture
def screen(restaurant: Server) -> Iterator[ClientConnection]:
    with connect(f"ws://127.0.0.1:{restaurant.port}/kitchen/{BRANCH}", open_timeout=10) as screen:
        yield screen


def test_the_kitchen_sees_an_order_come_in_and_marks_it_ready(
    restaurant: Server, screen: ClientConnection
) -> None:
    known = json.loads(screen.recv(timeout=10))["open"]
    order = place_order(restaurant, [1])
    assert order["id"] not in known
    assert json.loads(screen.recv(timeout=10)) == order
    screen.send(str(order["id"]))
    assert json.loads(screen.recv(timeout=10)) == {**order, "status": "ready"}
    assert restaurant.get(f"/orders/{order['id']}").json()["status"] == "ready"


def test_the_kitchen_hears_nothing_of_other_branches(restaurant: Server, screen: ClientConnection) -> None:
    screen.recv(timeout=10)
    place_order(restaurant, [1], branch=BRANCH + 1)
    ours = place_order(restaurant, [1])
    assert json.loads(screen.recv(timeout=10))["id"] == ours["id"]


@pytest.mark.parametrize("message", ["nonsense", "-1", "999999999", '{"ready": 1}'])
def test_the_kitchen_hangs_up_on_nonsense(screen: ClientConnection, message: str) -> None:
    screen.recv(timeout=10)
    screen.send(message)
    with pytest.raises(ConnectionClosed) as closed:
        screen.recv(timeout=10)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1008


def test_there_is_no_kitchen_without_a_branch(restaurant: Server) -> None:
    with pytest.raises(InvalidStatus) as refused, connect(f"ws://127.0.0.1:{restaurant.port}/kitchen/999"):
        pass
    assert refused.value.response.status_code == 404


def test_events_push_orders_until_the_client_leaves(restaurant: Server) -> None:
    with restaurant.client.stream("GET", f"/kitchen/{BRANCH}/events") as answer:
        lines = answer.iter_lines()
        assert next(lines) == ": watching"
        order = place_order(restaurant, [1])
        pushed = next(line for line in lines if line.startswith("data: "))
    assert json.loads(pushed.removeprefix("data: ")) == order


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing/here", 404),
        ("GET", "/branches/999", 404),
        ("GET", f"/users/{10**30}", 404),
        ("GET", f"/users?branch={10**30}", 400),
        ("GET", "/users?page=last", 400),
        ("GET", "/orders?status=eaten", 400),
        ("GET", "/schedules?date=tomorrow", 400),
        ("GET", "/reports/roster/1", 400),
        ("DELETE", "/menu", 405),
        ("POST", f"/orders/{10**9}/payment", 404),
        ("PUT", "/schedules/1", 400),
    ],
)
def test_mistakes_are_answered_as_such(restaurant: Server, method: str, path: str, status: int) -> None:
    answer = restaurant.request(method, path)
    assert answer.status_code == status
    assert answer.json()["error"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b'{"branch_id": 1, "guest_name": "x", "dishes": []}',
        b'{"branch_id": 1, "guest_name": "x", "dishes": [null]}',
        b'{"branch_id": 1, "guest_name": "x", "dishes": [[1]]}',
        b'{"branch_id": 1, "guest_name": "x", "dishes": [-1]}',
        b'{"branch_id": 1, "guest_name": "x", "dishes": [%d]}' % 10**30,
        b'{"branch_id": "1", "guest_name": "x", "dishes": [1]}',
        b'{"branch_id": true, "guest_name": "x", "dishes": [1]}',
    ],
)
def test_orders_that_make_no_sense_are_refused(restaurant: Server, body: bytes) -> None:
    assert restaurant.request("POST", "/orders", content=body).status_code == 400


@pytest.mark.parametrize(("branch", "dish"), [(999, 1), (1, 999), (10**30, 1)])
def test_orders_of_what_there_is_not_find_nothing(restaurant: Server, branch: int, dish: int) -> None:
    order = {"branch_id": branch, "guest_name": "Ada", "dishes": [dish]}
    assert restaurant.request("POST", "/orders", json=order).status_code == 404
