// Fills a fresh Unleash, through its API, with what a shop might have: `node seed.mjs production`, `… staging` or
// `… development`. What is there already stays, so it may run again.
//
// In production two people share a name, and nowhere else, since a mirror gives each person a name of their own. The broken
// release (flags-7.5.0.mjs) works in Staging and fails here because of them.

const shops = {
  production: {
    features: [
      ['checkout-express', 'One page from basket to order'],
      ['search-typo-tolerance', 'Find what was meant'],
      ['recommendations-v2', 'Bought together, by the new model'],
      ['invoice-pdf', 'Invoices as PDF in the account'],
      ['returns-self-service', 'Customers print their own return label'],
      ['delivery-slots', 'Choose the hour of delivery'],
      ['gift-cards', 'Sell and redeem gift cards'],
      ['dark-theme', 'A dark theme'],
      ['stock-warnings', 'Only three left'],
      ['price-in-points', 'Pay with loyalty points'],
      ['b2b-accounts', 'Company accounts with several buyers'],
      ['black-friday', 'The sale of the year'],
    ],
    on: ['checkout-express', 'invoice-pdf', 'returns-self-service', 'gift-cards', 'stock-warnings', 'b2b-accounts'],
    users: [
      ['Maria Garcia', 'maria.garcia@shop.example.com'],
      ['Maria Garcia', 'maria.garcia.2@shop.example.com'],
      ['Jonas Weber', 'jonas.weber@shop.example.com'],
      ['Aiko Tanaka', 'aiko.tanaka@shop.example.com'],
      ['Samuel Okafor', 'samuel.okafor@shop.example.com'],
      ['Elif Yilmaz', 'elif.yilmaz@shop.example.com'],
    ],
  },
  staging: {
    features: [
      ['checkout-express', 'One page from basket to order'],
      ['test-flag-1', ''],
      ['test-flag-2', 'please ignore'],
    ],
    on: ['test-flag-1'],
    users: [
      ['Test One', 'one@staging.example.com'],
      ['Test Two', 'two@staging.example.com'],
    ],
  },
};

shops.development = shops.staging;

const url = process.env.TARGET_URL ?? 'http://unleash';
const shop = shops[process.argv[2]];
if (!shop) {
  console.error(`usage: node seed.mjs ${Object.keys(shops).join(' | ')}`);
  process.exit(2);
}

let cookie = '';
// Answers the parsed body, or undefined where the thing exists already.
async function ask(method, path, body) {
  const response = await fetch(url + path, {
    method,
    headers: {'content-type': 'application/json', cookie},
    body: body && JSON.stringify(body),
    signal: AbortSignal.timeout(10_000),
  });
  const text = await response.text();
  if (response.status === 409) return undefined;
  if (!response.ok) throw new Error(`${method} ${path} answered ${response.status}: ${text.slice(0, 500)}`);
  cookie = response.headers.getSetCookie().map((c) => c.split(';')[0]).join('; ') || cookie;
  return text ? JSON.parse(text) : {};
}

await ask('POST', '/auth/simple/login', {username: process.env.CHECK_USERNAME ?? 'admin', password: process.env.CHECK_PASSWORD});

for (const [name, description] of shop.features) {
  const made = await ask('POST', '/api/admin/projects/default/features', {name, description, type: 'release'});
  if (made && shop.on.includes(name)) {
    await ask('POST', `/api/admin/projects/default/features/${name}/environments/production/on`);
  }
}
// Asked for first: Unleash checks emails for being taken, but answers 400 for that as for much else.
const known = new Set((await ask('GET', '/api/admin/user-admin')).users.map((user) => user.email));
const viewer = 3; // the root role that every Unleash is born with
for (const [name, email] of shop.users) {
  if (!known.has(email)) await ask('POST', '/api/admin/user-admin', {name, email, rootRole: viewer, sendEmail: false});
}
const {features} = await ask('GET', '/api/admin/projects/default/features');
const {users} = await ask('GET', '/api/admin/user-admin');
console.log(`${process.argv[2]} has ${features.length} features and ${users.length} users`);
