//! How to reach a server, as the Secrets of an environment's data say it.
//!
//! `<data>/connection` holds `uri`, or `host`, `port`, `dbname`, `user`, `password`; `<data>/admin` the same for the role
//! that may fence and clone. What the admin's Secret does not say of the server is taken from the connection's.

use std::{fmt, fs, io::ErrorKind, path::Path, path::PathBuf};

use super::error::PgError;
use crate::manifest::task::MIGRATIONS;

/// How far the server's identity is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslMode {
    /// No TLS.
    Disable,
    /// TLS where the server offers it.
    Prefer,
    /// TLS; the certificate is checked where a CA is given.
    Require,
    /// TLS, and the certificate must be of the CA and of the host.
    VerifyFull,
}

impl SslMode {
    /// The word that libpq uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyFull => "verify-full",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "disable" => Self::Disable,
            "allow" | "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" | "verify-full" => Self::VerifyFull,
            _ => return None,
        })
    }
}

/// A role on a server.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Host or socket directory.
    pub host: String,
    /// Port.
    pub port: u16,
    /// The database that the Secret names.
    pub database: String,
    /// The role.
    pub user: String,
    /// Its password.
    pub password: String,
    /// TLS.
    pub ssl: SslMode,
    /// The file with the CA's certificate.
    pub ca: Option<PathBuf>,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({} as {}, {})", self.server(), self.user, self.ssl.as_str())
    }
}

impl Endpoint {
    /// Reads the Secret of the server on which restores are proven. What it names as `dbname` is only where one enters.
    pub fn of_proof(directory: &Path) -> Result<Self, PgError> {
        let mut keys = Keys::read(directory, "of backups.proof".into())?;
        keys.database.get_or_insert_with(|| "postgres".into());
        keys.endpoint(None)
    }

    /// Host and port, for messages.
    pub fn server(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// Both roles of one data.
#[derive(Clone, Debug)]
pub struct Access {
    /// Name of the data.
    pub data: String,
    /// The role with which the application connects; its database is the data's database.
    pub connection: Endpoint,
    /// The role that fences, clones and swaps.
    pub admin: Endpoint,
}

impl Access {
    /// Reads the Secrets of a data below `secrets`.
    pub fn read(secrets: &Path, data: &str) -> Result<Self, PgError> {
        let connection =
            Keys::read(&secrets.join(data).join("connection"), format!("data {data}, connection"))?.endpoint(None)?;
        let admin_directory = secrets.join(data).join("admin");
        let admin = match Keys::read(&admin_directory, format!("data {data}, admin")) {
            Ok(keys) => keys.endpoint(Some(&connection))?,
            Err(_) if !admin_directory.exists() => connection.clone(),
            Err(error) => return Err(error),
        };
        Ok(Self { data: data.to_owned(), connection, admin })
    }

    /// Reads the Secret of a role that a migration of this data has of its own. What it does not say of the server is taken
    /// from the connection's.
    pub fn migration(&self, secrets: &Path, secret: &str) -> Result<Endpoint, PgError> {
        let name = format!("{secret} (data {}, migration)", self.data);
        Keys::read(&secrets.join(&self.data).join(MIGRATIONS).join(secret), name)?.endpoint(Some(&self.connection))
    }

    /// The data's database.
    pub fn database(&self) -> &str {
        &self.connection.database
    }
}

/// The keys of one Secret.
#[derive(Default)]
struct Keys {
    name: String,
    host: Option<String>,
    port: Option<String>,
    database: Option<String>,
    user: Option<String>,
    password: Option<String>,
    ssl: Option<String>,
    ca: Option<PathBuf>,
}

impl Keys {
    fn read(directory: &Path, name: String) -> Result<Self, PgError> {
        if !directory.is_dir() {
            return Err(PgError::Secret { secret: name, problem: "it is not mounted".into() });
        }
        let key = |key: &str| -> Result<Option<String>, PgError> {
            match fs::read_to_string(directory.join(key)) {
                Ok(text) => Ok(Some(text.trim_end_matches(['\n', '\r']).to_owned()).filter(|t| !t.is_empty())),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                Err(error) => {
                    Err(PgError::Secret { secret: name.clone(), problem: format!("key {key} cannot be read: {}", error.kind()) })
                }
            }
        };
        let mut keys = match key("uri")? {
            Some(uri) => Self::from_uri(&uri).map_err(|problem| PgError::Secret { secret: name.clone(), problem })?,
            None => Self {
                host: key("host")?,
                port: key("port")?,
                database: key("dbname")?,
                user: key("user")?.or(key("username")?),
                password: key("password")?,
                ssl: key("sslmode")?,
                ..Self::default()
            },
        };
        keys.ca = ["sslrootcert", "ca.crt"].into_iter().map(|k| directory.join(k)).find(|path| path.is_file());
        keys.name = name;
        Ok(keys)
    }

    /// Reads `postgresql://user:password@host:port/database?sslmode=…`. The problem never quotes the text.
    fn from_uri(uri: &str) -> Result<Self, String> {
        let rest = ["postgresql://", "postgres://"]
            .into_iter()
            .find_map(|scheme| uri.strip_prefix(scheme))
            .ok_or("key uri must begin with postgresql:// or postgres://")?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (credentials, place) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
        if place.contains(',') {
            return Err("key uri names several hosts; name the one that accepts writes".into());
        }
        let (host, port) = match place.strip_prefix('[') {
            Some(v6) => {
                let (host, rest) = v6.split_once(']').ok_or("key uri: the host's bracket is not closed")?;
                (host, rest.strip_prefix(':').unwrap_or(""))
            }
            None => place.rsplit_once(':').unwrap_or((place, "")),
        };
        let part = |what: &str, text: &str| -> Result<Option<String>, String> {
            let text = decode(text).ok_or(format!("key uri: the {what} is not percent-encoded UTF-8"))?;
            Ok(Some(text).filter(|t| !t.is_empty()))
        };
        let mut keys = Self {
            host: part("host", host)?,
            port: part("port", port)?,
            database: part("database", database)?,
            user: part("user", user)?,
            password: part("password", password)?,
            ..Self::default()
        };
        for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            let value = part("query", value)?;
            match name {
                "sslmode" => keys.ssl = value,
                "host" => keys.host = value,
                "port" => keys.port = value,
                "dbname" => keys.database = value,
                "user" => keys.user = value,
                "password" => keys.password = value,
                _ => {}
            }
        }
        Ok(keys)
    }

    fn endpoint(self, server: Option<&Endpoint>) -> Result<Endpoint, PgError> {
        let missing = |key: &str| PgError::Secret {
            secret: self.name.clone(),
            problem: format!("key {key} is missing or empty; give uri, or host, port, dbname, user and password"),
        };
        let bad = |problem: String| PgError::Secret { secret: self.name.clone(), problem };
        let host = self.host.clone().or(server.map(|s| s.host.clone())).ok_or_else(|| missing("host"))?;
        let port = match &self.port {
            Some(text) => text.parse().map_err(|_| bad("the port is not a number from 1 to 65535".into()))?,
            None => server.filter(|s| s.host == host).map_or(5432, |s| s.port),
        };
        let database = self.database.clone().or(server.map(|s| s.database.clone())).ok_or_else(|| missing("dbname"))?;
        if database.len() > 63 || database.contains('\0') {
            return Err(bad("the database's name is longer than 63 bytes".into()));
        }
        let ca = self.ca.clone().or(server.and_then(|s| s.ca.clone()));
        let ssl = match &self.ssl {
            Some(word) => SslMode::parse(word)
                .ok_or_else(|| bad("sslmode is none of disable, allow, prefer, require, verify-ca, verify-full".into()))?,
            None => server.map_or(SslMode::Prefer, |s| s.ssl),
        };
        if ssl == SslMode::VerifyFull && ca.is_none() {
            return Err(bad(
                "sslmode asks to verify the server, so key ca.crt or sslrootcert must hold the CA's certificate".into()
            ));
        }
        Ok(Endpoint {
            host,
            port,
            database,
            user: self.user.clone().ok_or_else(|| missing("user"))?,
            password: self.password.clone().ok_or_else(|| missing("password"))?,
            // With a CA at hand a server that cannot show a certificate of it is the wrong server.
            ssl: if ca.is_some() && ssl == SslMode::Require { SslMode::VerifyFull } else { ssl },
            ca,
        })
    }
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let pair = [rest.next()?, rest.next()?];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&pair).ok()?, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok().filter(|t| !t.contains('\0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Result<Endpoint, PgError> {
        Keys::from_uri(text).map_err(|problem| PgError::Secret { secret: "x".into(), problem })?.endpoint(None)
    }

    #[test]
    fn a_uri_is_read_with_its_percent_signs() {
        let e = uri("postgresql://app%40x:p%2Fw%3A@db-rw.shop:6432/Shop%20A?sslmode=require&x=y").unwrap();
        assert_eq!((e.user.as_str(), e.password.as_str(), e.host.as_str()), ("app@x", "p/w:", "db-rw.shop"));
        assert_eq!((e.port, e.database.as_str(), e.ssl), (6432, "Shop A", SslMode::Require));
        let e = uri("postgres://u:p@[::1]/d").unwrap();
        assert_eq!((e.host.as_str(), e.port, e.ssl), ("::1", 5432, SslMode::Prefer));
    }

    #[test]
    fn a_bad_uri_is_refused_without_being_quoted() {
        for text in [
            "jdbc:postgresql://u:s3cret@h/d",
            "postgresql://u:s3cret@a,b/d",
            "postgresql://u:s3cret%zz@h/d",
            "postgresql://u:s3cret@h:s3cret/d",
            "postgresql://u:s3cret@h/",
            "postgresql://:s3cret@h/d",
            "postgresql://u:s3cret@h/d?sslmode=s3cret",
            "postgresql://u:s3cret@h/d?sslmode=verify-full",
        ] {
            let error = uri(text).unwrap_err().to_string();
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn files_may_end_in_a_newline_and_a_missing_key_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let connection = directory.path().join("shop/connection");
        fs::create_dir_all(&connection).unwrap();
        for (key, value) in [("host", "h\n"), ("port", "5433\n"), ("dbname", "d\r\n"), ("username", "u"), ("password", "p w\n")] {
            fs::write(connection.join(key), value).unwrap();
        }
        let access = Access::read(directory.path(), "shop").unwrap();
        assert_eq!((access.database(), access.admin.password.as_str(), access.admin.port), ("d", "p w", 5433));
        let admin = directory.path().join("shop/admin");
        fs::create_dir_all(&admin).unwrap();
        fs::write(admin.join("user"), "adm").unwrap();
        let error = Access::read(directory.path(), "shop").unwrap_err().to_string();
        assert!(error.contains("data shop, admin") && error.contains("key password"), "{error}");
        fs::write(admin.join("password"), "q").unwrap();
        let access = Access::read(directory.path(), "shop").unwrap();
        assert_eq!((access.admin.user.as_str(), access.admin.port), ("adm", 5433));
        assert!(!format!("{access:?}").contains("p w"));
    }
}
