"""The pages in Flask, the items in a blueprint."""

from __future__ import annotations

import os
import time

from flask import Blueprint, Flask, Response, abort, redirect, request, send_file

from tests.system.apps.pages import CHUNKS, FILE, HELLO, Boom, database, first_item, with_one_line

engine = database()
app = Flask(__name__)
items = Blueprint("items", __name__, url_prefix="/items")


@app.get("/")
def hello() -> Response:
    return Response(HELLO, mimetype="text/plain")


@items.get("/<id>")
def item(id: str) -> Response:  # noqa: A002 - the page's parameter has this name in every app
    if id == "none":
        abort(404)
    return Response(f"item {id}", mimetype="text/plain")


@app.get("/stream")
def stream() -> Response:
    return Response(iter(CHUNKS), mimetype="text/plain")


@app.get("/file")
def file() -> Response:
    return send_file(FILE, mimetype="text/plain", conditional=True)


@app.get("/boom")
def boom() -> Response:
    raise Boom("asked for")


@app.get("/redirect")
def redirected() -> Response:
    return redirect("/", 302)


@app.get("/query")
def query() -> Response:
    return Response(first_item(engine), mimetype="text/plain")


@app.get("/slow")
def slow() -> Response:
    time.sleep(float(request.args.get("seconds", "0.2")))
    return Response("at last", mimetype="text/plain")


@app.get("/pid")
def pid() -> Response:
    return Response(str(os.getpid()), mimetype="text/plain")


@app.post("/echo")
def echo() -> Response:
    return Response(request.get_data(), mimetype="application/octet-stream")


app.register_blueprint(items)
app = with_one_line(app)
