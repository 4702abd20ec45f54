-- The seven indexes that the restaurant product came to have by hand, to hold the advisor's against: `--against`.
CREATE INDEX ix_users_email ON users (email);
CREATE INDEX ix_users_role ON users (role);
CREATE INDEX ix_users_branch_id ON users (branch_id);
CREATE INDEX ix_users_created_at ON users (created_at);
CREATE INDEX ix_schedules_user_id ON schedules (user_id);
CREATE INDEX ix_schedules_date ON schedules (date);
CREATE INDEX ix_schedules_date_user_id ON schedules (date, user_id);
