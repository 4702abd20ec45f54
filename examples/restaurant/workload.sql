-- What a busy hour asks of users and schedules: ten queries and two writes, for `restaurant-otel advise --from`.

-- calls: 4000
-- route: /users/by-email/{email}
SELECT id, email, full_name, role, branch_id, created_at FROM users WHERE email = :email;

-- calls: 3000
-- route: /schedules
SELECT s.id, s.date, s.starts, s.ends, u.full_name FROM schedules s JOIN users u ON u.id = s.user_id
WHERE s.user_id = :user_id ORDER BY s.date;

-- calls: 2000
-- route: /schedules
SELECT id, starts, ends FROM schedules WHERE user_id = :user_id AND date = :date;

-- calls: 800
-- route: /schedules
SELECT s.id, s.starts, s.ends, u.full_name FROM schedules s JOIN users u ON u.id = s.user_id
WHERE s.date = :date ORDER BY s.user_id LIMIT 50;

-- calls: 600
-- route: /reports/roster/{branch_id:int}
SELECT s.id, s.starts, s.ends FROM schedules s JOIN users u ON u.id = s.user_id
WHERE u.branch_id = :branch_id AND s.date = :date;

-- calls: 500
-- route: /users
SELECT id, full_name FROM users WHERE branch_id = :branch_id ORDER BY created_at DESC, id LIMIT 50;

-- calls: 200
-- route: /users
SELECT id, full_name FROM users WHERE role = :role AND branch_id = :branch_id ORDER BY created_at DESC, id LIMIT 50;

-- calls: 60
-- route: /users
SELECT id, full_name FROM users WHERE role = :role ORDER BY created_at DESC, id LIMIT 50;

-- calls: 40
-- route: /reports/joiners
SELECT count(*) FROM users WHERE created_at >= :low AND created_at < :high;

-- calls: 20
-- route: /reports/hours
SELECT date, count(*) FROM schedules WHERE date BETWEEN :low AND :high GROUP BY date;

-- calls: 100
-- route: /users
INSERT INTO users (email, full_name, role, branch_id, created_at) VALUES (:email, :full_name, :role, :branch_id, :created_at);

-- calls: 500
-- route: /schedules
INSERT INTO schedules (user_id, date, starts, ends) VALUES (:user_id, :date, :starts, :ends);
