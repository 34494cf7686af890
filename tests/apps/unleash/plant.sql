-- Fills a fresh Unleash with people wherever it keeps them: columns, copies of their names and addresses, JSON, tokens, sessions,
-- free text. Each such value is a canary, unlike any other: @WORD@ with a number.
CREATE TEMPORARY SEQUENCE canaries;
CREATE FUNCTION pg_temp.canary() RETURNS text VOLATILE AS $$ SELECT '@WORD@' || lpad(nextval('canaries')::text, 6, '0') $$ LANGUAGE sql;
CREATE FUNCTION pg_temp.email() RETURNS text VOLATILE AS $$ SELECT pg_temp.canary() || '@@WORD@.example' $$ LANGUAGE sql;
BEGIN;
-- All log in with what Unleash is born with, were they allowed to: the hash is no one's secret, and each has another below.
INSERT INTO users (name, username, email, image_url, password_hash, settings, permissions, scim_id, scim_external_id)
SELECT pg_temp.canary() || ' ' || pg_temp.canary(), CASE WHEN n % 3 = 0 THEN pg_temp.canary() END, pg_temp.email(), 'https://' || pg_temp.canary() || '.example/face.png',
  pg_temp.canary(), json_build_object('nickname', pg_temp.canary()), '[]', pg_temp.canary(), pg_temp.canary()
FROM generate_series(1, 60) n;
CREATE TEMPORARY VIEW people AS SELECT * FROM users WHERE email LIKE '@WORD@%';
INSERT INTO role_user (role_id, user_id, project) SELECT r.id, p.id, 'default' FROM people p, roles r WHERE r.name = 'Viewer';
INSERT INTO used_passwords (user_id, password_hash) SELECT id, password_hash FROM people;
INSERT INTO personal_access_tokens (secret, description, user_id, expires_at) SELECT pg_temp.canary(), pg_temp.canary(), id, now() + '1 year' FROM people;
INSERT INTO reset_tokens (reset_token, user_id, expires_at, created_by) SELECT pg_temp.canary(), id, now() + '1 day', email FROM people;
INSERT INTO unleash_session (sid, sess, expired)
SELECT pg_temp.canary(), json_build_object('user', json_build_object('id', id, 'email', email, 'ip', pg_temp.canary())), now() + '1 day' FROM people;
INSERT INTO login_history (username, auth_type, successful, ip, failure_reason) SELECT email, 'simple', false, '192.0.2.7', pg_temp.canary() FROM people;
INSERT INTO groups (name, description, created_by, mappings_sso, scim_id, scim_external_id)
SELECT pg_temp.canary(), pg_temp.canary(), email, jsonb_build_array(pg_temp.canary()), pg_temp.canary(), pg_temp.canary() FROM people;
INSERT INTO group_user (group_id, user_id, created_by) SELECT g.id, p.id, p.email FROM groups g JOIN people p ON g.created_by = p.email;

-- What people write about what they make.
UPDATE projects SET description = pg_temp.canary();
INSERT INTO features (name, description, variants, created_by_user_id)
SELECT 'flag-' || id, pg_temp.canary() || ' asked for it', json_build_array(json_build_object('name', 'on', 'payload', json_build_object('type', 'string', 'value', pg_temp.canary()))), id FROM people;
INSERT INTO feature_environments (environment, feature_name, enabled, variants)
SELECT 'development', name, true, jsonb_build_array(jsonb_build_object('name', 'on', 'payload', jsonb_build_object('value', pg_temp.canary()))) FROM features WHERE name LIKE 'flag-%';
INSERT INTO feature_strategies (id, feature_name, project_name, environment, strategy_name, title, parameters, constraints, variants)
SELECT gen_random_uuid(), name, 'default', 'development', 'flexibleRollout', 'For ' || pg_temp.canary(),
  jsonb_build_object('groupId', name, 'rollout', '50', 'stickiness', 'default', 'userIds', pg_temp.email()),
  jsonb_build_array(jsonb_build_object('contextName', 'userId', 'operator', 'IN', 'values', jsonb_build_array(pg_temp.email(), pg_temp.email()))),
  jsonb_build_array(jsonb_build_object('name', 'on', 'payload', jsonb_build_object('value', pg_temp.canary())))
FROM features WHERE name LIKE 'flag-%';
INSERT INTO segments (name, description, created_by, constraints)
SELECT 'segment-' || id, pg_temp.canary(), email, jsonb_build_array(jsonb_build_object('contextName', 'email', 'operator', 'IN', 'values', jsonb_build_array(pg_temp.email()))) FROM people;
INSERT INTO context_fields (name, description, legal_values)
SELECT 'field-' || id, pg_temp.canary(), json_build_array(json_build_object('value', pg_temp.email(), 'description', pg_temp.canary())) FROM people;
INSERT INTO api_tokens (secret, username, type, environment, alias, token_name)
SELECT '*:development.' || secret, name, 'client', 'development', pg_temp.canary(), name FROM (SELECT pg_temp.canary() AS secret, pg_temp.canary() AS name FROM people OFFSET 0) made;
INSERT INTO api_token_project (secret, project) SELECT secret, 'default' FROM api_tokens WHERE secret LIKE '%@WORD@%';
INSERT INTO addons (provider, description, parameters, events)
SELECT 'webhook', pg_temp.canary(), json_build_object('url', 'https://' || pg_temp.canary() || '.example', 'authorization', pg_temp.canary()), '["feature-created"]' FROM people;
INSERT INTO client_applications (app_name, description, url, created_by, strategies)
SELECT 'app-' || id, pg_temp.canary(), 'https://' || pg_temp.canary() || '.example', email, json_build_array(pg_temp.canary()) FROM people;
INSERT INTO client_instances (app_name, instance_id, client_ip) SELECT app_name, pg_temp.canary(), pg_temp.canary() FROM client_applications WHERE app_name LIKE 'app-%';
INSERT INTO banners (message, link, dialog) SELECT pg_temp.canary(), 'https://' || pg_temp.canary() || '.example', pg_temp.canary() FROM people;
INSERT INTO public_signup_tokens (secret, name, expires_at, created_by, role_id, url)
SELECT pg_temp.canary(), pg_temp.canary(), now() + '1 day', email, (SELECT id FROM roles WHERE name = 'Viewer'), 'https://' || pg_temp.canary() || '.example' FROM people;
INSERT INTO settings (name, content) VALUES ('planted', json_build_object('smtp', json_build_object('password', pg_temp.canary(), 'from', pg_temp.email())));
INSERT INTO events (type, created_by, created_by_user_id, ip, feature_name, project, data, pre_data, tags)
SELECT 'feature-updated', email, id, pg_temp.canary(), 'flag-' || id, 'default', json_build_object('description', pg_temp.canary(), 'owner', json_build_object('name', name, 'email', email)),
  jsonb_build_object('description', pg_temp.canary(), 'users', jsonb_build_array(pg_temp.email())), json_build_array(json_build_object('type', 'simple', 'value', pg_temp.canary())) FROM people, generate_series(1, 5);
COMMIT;
