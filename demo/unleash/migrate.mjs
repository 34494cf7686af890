// Brings Unleash's schema to this image's release, and ends. What a promotion runs while nobody else is in the database.
// The server could do it by itself at every start; then nobody would know whether a start is a migration.

if (!URL.canParse(process.env.DATABASE_URL ?? '')) {
  console.error('migration failed: DATABASE_URL is missing or no address'); // and not its text, which holds a password
  process.exit(1);
}
const url = new URL(process.env.DATABASE_URL);
// Unleash's migrator would prefer this variable to what it is given, and 7.x leaves the text "undefined" in its place.
delete process.env.DATABASE_URL;

// By path, because 6.x does not export it.
const {migrateDb} = await import('./node_modules/unleash-server/dist/migrator.js');

const address = {
  host: url.hostname,
  port: Number(url.port || 5432),
  user: decodeURIComponent(url.username),
  password: decodeURIComponent(url.password),
  database: url.pathname.slice(1),
};

try {
  await migrateDb({db: {driver: 'postgres', schema: 'public', ssl: false, ...address}});
  // A migration of one's own beside Unleash's. Only the demo's broken release names one, in its image.
  if (process.env.EXTRA_MIGRATION) {
    const {default: migrate} = await import(process.env.EXTRA_MIGRATION);
    const {default: pg} = await import('pg');
    const client = new pg.Client(address);
    await client.connect();
    await migrate(client);
  }
  console.log('the schema is at the state of this release');
} catch (error) {
  // The message only: a database error's detail quotes rows, and rows hold people's names.
  console.error(`migration failed: ${error.message}`);
  process.exit(1);
}
process.exit(0); // the migrator's pool would keep the process alive
