//! What mends a finding: YAML to apply, SQL to run. Pure. No value is ever read from a Secret; passwords are for the
//! person to fill in.

use sha2::{Digest, Sha256};

/// The command that installs the operator, its kinds and its policies.
pub const INSTALL: &str = "helm install lockkeeper charts/lockkeeper -n lockkeeper-system --create-namespace";

/// One of the chart's ClusterRoles for people, for one user in one namespace: `promoter`, `approver`.
pub fn role(role: &str, namespace: &str, username: &str) -> String {
    // Names of users are not names of objects.
    let short = hex::encode(&Sha256::digest(username.as_bytes())[..4]);
    format!(
        "\
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: lockkeeper-{role}-{short}, namespace: {namespace}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: lockkeeper-{role}}}
subjects:
- {{apiGroup: rbac.authorization.k8s.io, kind: User, name: {}}}",
        serde_json::Value::from(username)
    )
}

/// What lets the operator work in a namespace.
pub fn operator_binding(namespace: &str) -> String {
    format!(
        "\
helm install lockkeeper-environment charts/lockkeeper-environment -n {namespace}
or:
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: lockkeeper-environment, namespace: {namespace}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: lockkeeper-environment}}
subjects:
- {{kind: ServiceAccount, name: lockkeeper, namespace: lockkeeper-system}}"
    )
}

/// A Secret with the connection of an application's role.
pub fn connection_secret(name: &str, namespace: &str) -> String {
    format!(
        "\
apiVersion: v1
kind: Secret
metadata: {{name: {name}, namespace: {namespace}}}
stringData: {{host: …, port: \"5432\", dbname: …, user: …, password: …}}"
    )
}

/// A Secret with the connection of an admin role, and the SQL that makes the role.
pub fn admin_secret(name: &str, namespace: &str) -> String {
    format!(
        "\
{}
with a role made once by whoever owns the server (app_owner: the owner of the database):
CREATE ROLE lockkeeper_admin LOGIN CREATEDB PASSWORD '…';
GRANT app_owner TO lockkeeper_admin;
GRANT pg_signal_backend, pg_read_all_stats TO lockkeeper_admin;",
        connection_secret(name, namespace)
    )
}

/// A Secret with the connection to a server on which restores are proven, and the SQL that makes the role.
pub fn proof_secret(name: &str, namespace: &str) -> String {
    format!(
        "\
{}
of a server of the same major version or newer, dbname: postgres, with a role made once by whoever owns it:
CREATE ROLE lockkeeper_proof LOGIN CREATEDB PASSWORD '…';
GRANT CONNECT ON DATABASE postgres TO lockkeeper_proof;",
        connection_secret(name, namespace)
    )
}

/// A Secret with the connection of a migration's own role, and the SQL that makes the role.
pub fn migration_secret(name: &str, namespace: &str) -> String {
    format!(
        "\
{}
with a role made once by whoever owns the server (app_owner: the owner of the database shop):
CREATE ROLE shop_migration LOGIN PASSWORD '…';
GRANT app_owner TO shop_migration;
GRANT shop_migration TO lockkeeper_admin;
ALTER ROLE shop_migration IN DATABASE shop SET role = app_owner;",
        connection_secret(name, namespace)
    )
}

/// A Secret with the password of a backup repository.
pub fn repository_password(name: &str, namespace: &str) -> String {
    format!(
        "\
kubectl create secret generic {name} -n {namespace} --from-literal=password=\"$(openssl rand -base64 32)\"
Keep a copy elsewhere: without it no backup can be read."
    )
}

/// A Secret with the password of an exchange.
pub fn exchange_password(name: &str, namespace: &str) -> String {
    format!(
        "\
kubectl create secret generic {name} -n {namespace} --from-literal=password=…
The same password on both sides, and another than that of the backups."
    )
}

/// A Secret with the credentials of an S3 server.
pub fn s3_credentials(name: &str, namespace: &str) -> String {
    format!(
        "\
kubectl create secret generic {name} -n {namespace} --from-literal=accessKeyId=… --from-literal=secretAccessKey=…
The key needs s3:ListBucket on the bucket, and s3:GetObject, s3:PutObject and s3:DeleteObject on what is in it. Where the
server's certificate is not of a public authority, add --from-file=ca.crt=…"
    )
}

/// A volume for the backup repository.
pub fn claim(name: &str, namespace: &str) -> String {
    format!(
        "\
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 20Gi}}}}}}"
    )
}

/// The target's consent to a source.
pub const PROMOTES_FROM: &str = "spec:\n  promotesFrom:\n  - {namespace: …, name: …}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_as_yaml_is_yaml() {
        for text in [
            role("promoter", "shop", "alice@example.com"),
            connection_secret("unleash-db", "shop"),
            claim("backups", "shop"),
            operator_binding("shop").split_once("or:\n").unwrap().1.to_owned(),
        ] {
            let documents: Vec<serde_json::Value> = serde_saphyr::from_multiple(&text).unwrap();
            assert!(documents.iter().all(|d| d["kind"].is_string() && d["metadata"]["namespace"] == "shop"), "{text}");
        }
    }

    #[test]
    fn a_users_name_cannot_break_out_of_the_yaml() {
        let text = role("promoter", "shop", "eve\"}\n- x");
        let documents: Vec<serde_json::Value> = serde_saphyr::from_multiple(&text).unwrap();
        assert_eq!(documents[0]["subjects"][0]["name"], "eve\"}\n- x");
    }
}
