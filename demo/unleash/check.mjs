// The login check: uses Unleash as a person does, and changes nothing but the session table. Exits 0 or 1, with a sentence.
//
// GET /health is no gate: Unleash 7.4.1 on the schema of 6.3.0 says GOOD there, while every login fails.

const url = process.env.TARGET_URL ?? 'http://unleash';
const username = process.env.CHECK_USERNAME ?? 'admin';
const password = process.env.CHECK_PASSWORD;

async function ask(path, options) {
  // Redirects are followed for nobody: a login page in place of the answer is a failure.
  const response = await fetch(url + path, {redirect: 'manual', signal: AbortSignal.timeout(10_000), ...options});
  const text = await response.text();
  if (response.status !== 200) {
    throw new Error(`${options?.method ?? 'GET'} ${path} answered ${response.status}: ${text.slice(0, 200)}`);
  }
  return {response, body: JSON.parse(text)};
}

try {
  const {response} = await ask('/auth/simple/login', {
    method: 'POST',
    headers: {'content-type': 'application/json'},
    body: JSON.stringify({username, password}),
  });
  const cookie = response.headers.getSetCookie().map((c) => c.split(';')[0]).join('; ');
  const {body} = await ask('/api/admin/projects/default/features', {headers: {cookie}});
  if (!Array.isArray(body.features)) throw new Error('the list of features is not a list');
  console.log(`logged in as ${username} and read ${body.features.length} features`);
} catch (error) {
  console.error(`login check failed: ${error.message}${error.cause ? ` (${error.cause.message})` : ''}`);
  process.exit(1);
}
