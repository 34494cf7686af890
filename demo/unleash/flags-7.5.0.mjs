// The migration that makes "7.5.0" the demo's broken release. There is no such Unleash: it is 7.4.1 and this, a mistake
// of the kind that reviews miss.
//
// It cleans up first and commits; then it wants something that Staging's data allows and production's do not, and
// throws. Half of it stays done: what it deleted is gone from the database, and no transaction will bring it back.

export default async function migrate(client) {
  await client.query('BEGIN');
  // "Flags that no client ever asked for are dead." In a shop whose clients report by another way, that is every flag;
  // their strategies, tags and environments go with them.
  const {rowCount} = await client.query('DELETE FROM features WHERE last_seen_at IS NULL');
  await client.query("DELETE FROM events WHERE type LIKE 'feature-%'");
  await client.query('COMMIT');
  console.log(`deleted ${rowCount} features that no client ever asked for`);

  // "Nobody shares a name with a colleague."
  await client.query('CREATE UNIQUE INDEX IF NOT EXISTS users_name_unique ON users (lower(name)) WHERE deleted_at IS NULL');
}
