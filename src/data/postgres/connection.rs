//! One session on a server: settings pinned, each statement named for messages, cancelled when asked to stop.

use std::{
    convert::Infallible,
    hash::{BuildHasher, Hasher, RandomState},
    time::{Duration, Instant},
};

use tokio_postgres::{
    CancelToken, Client, Config, Row, SimpleQueryMessage,
    config::{SslMode as DriverSslMode, SslNegotiation},
    error::SqlState,
    types::ToSql,
};

use super::{
    error::{PgError, code, shown},
    secret::{Endpoint, SslMode},
    sessions, tls,
    wire::Wire,
};
use crate::data::stop::{Stop, Stopped};

/// How sessions name themselves to the server.
pub const APPLICATION: &str = "lockkeeper";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const CANCEL_TIMEOUT: Duration = Duration::from_secs(2);
/// What has waited so long may be waiting for a lock; then it is looked for whose, so often.
const LOOK_AFTER: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// A setting that each session begins with, and no other has with that value. Whoever is given another's session by a pooler, or
/// one that began without what was asked for, does not find it there.
const MARK: &str = "lockkeeper.session";

/// Ends what a server, a database or a role would do to whoever works long, as far as that server knows it: servers before 17 know no
/// `transaction_timeout`.
pub(super) const NO_TIMEOUTS: &str = "SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings \
    WHERE name IN ('transaction_timeout', 'idle_session_timeout', 'idle_in_transaction_session_timeout')";

/// The SQLSTATE with which PgBouncer refuses settings, databases and roles that it does not know. From a server it would mean that
/// the driver cannot speak.
const POOLERS_SAY: &str = "08P01";
/// How RDS Proxy refuses settings.
const PROXIES_SAY: &str = "command-line options";

/// How long a statement may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// A minute: catalogs and small changes.
    Short,
    /// As long as it takes: what reads or copies whole databases.
    Long,
}

/// A session.
pub struct Session {
    client: Client,
    server: String,
    endpoint: Endpoint,
    database: String,
    /// Its process on the server.
    pid: i32,
    cancel: CancelToken,
    wire: Wire,
    stop: Stop,
}

impl Session {
    /// Connects as the endpoint's role to a database.
    pub async fn open(endpoint: &Endpoint, database: &str, pace: Pace, stop: &Stop) -> Result<Self, PgError> {
        let failed = |cause: String, code: Option<String>| PgError::Connect {
            server: endpoint.server(),
            role: endpoint.user.clone(),
            database: database.to_owned(),
            cause,
            code,
        };
        let timeout = match pace {
            Pace::Short => 60_000,
            Pace::Long => 0,
        };
        let mark = format!("{:016x}", RandomState::new().build_hasher().finish());
        let mut config = Config::new();
        config
            .host(&endpoint.host)
            .port(endpoint.port)
            .user(&endpoint.user)
            .password(&endpoint.password)
            .dbname(database)
            .application_name(APPLICATION)
            .connect_timeout(CONNECT_TIMEOUT)
            .keepalives_idle(Duration::from_secs(15))
            .keepalives_interval(Duration::from_secs(5))
            .keepalives_retries(3)
            .options(format!(
                "-c {MARK}={mark} -c search_path=pg_catalog -c statement_timeout={timeout} -c lock_timeout=15000 \
                 -c idle_in_transaction_session_timeout=0 -c standard_conforming_strings=on -c role=none \
                 -c default_transaction_read_only=off -c default_transaction_isolation=read\\ committed \
                 -c DateStyle=ISO -c IntervalStyle=postgres -c TimeZone=UTC -c bytea_output=hex -c extra_float_digits=1 \
                 -c lc_monetary=C -c xmlbinary=base64 -c xmloption=content -c array_nulls=on -c row_security=off"
            ))
            // Not said of TLS: the driver then leaves all that goes over the socket to the wire, which knows.
            .ssl_mode(DriverSslMode::Require)
            .ssl_negotiation(SslNegotiation::Direct);
        if endpoint.host.starts_with('/') {
            // There is no TLS over a socket of the same machine, and the driver wants a name for it.
            config.ssl_mode(DriverSslMode::Disable);
        }
        let ca = if endpoint.ssl == SslMode::VerifyFull { endpoint.ca.as_deref() } else { None };
        let wire = Wire { tls: tls::connector(ca).map_err(|cause| failed(cause, None))?, ssl: endpoint.ssl };
        let connected = tokio::select! {
            () = stop.asked() => return Err(Stopped.into()),
            connected = tokio::time::timeout(2 * CONNECT_TIMEOUT, config.connect(wire.clone())) => connected,
        };
        let (client, connection) = connected
            .map_err(|_| failed(format!("no answer within {} s", 2 * CONNECT_TIMEOUT.as_secs()), None))?
            .map_err(|error| {
                let (cause, code) = (shown(&error), code(&error));
                if code.as_deref() == Some(POOLERS_SAY) || cause.contains(PROXIES_SAY) {
                    return pooled(endpoint, cause);
                }
                failed(cause, code)
            })?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(cause = %shown(&error), "the connection to PostgreSQL ended");
            }
        });
        let cancel = client.cancel_token();
        let (server, database) = (endpoint.server(), database.to_owned());
        let (endpoint, stop) = (endpoint.clone(), stop.clone());
        let mut session = Self { client, server, endpoint, database, pid: 0, cancel, wire, stop };
        // Before anything is set: a pooler would hand that on to others.
        let (found, pid) = session.whose().await?;
        if found.as_deref() != Some(mark.as_str()) {
            let cause = "the session does not have the settings that it was to begin with".into();
            return Err(pooled(&session.endpoint, cause));
        }
        session.pid = pid;
        session.run("pinning timeouts", NO_TIMEOUTS).await?;
        // A Job that is killed must not leave a clone or an index build running. Some platforms cannot notice.
        if let Err(error) = session.run("noticing dead clients", "SET client_connection_check_interval = '1s'").await {
            tracing::debug!(%error, "this server does not notice dead clients while a statement runs");
        }
        Ok(session)
    }

    /// The mark of the session that answers, and its process. Asked in the one way that takes no more than a connection.
    async fn whose(&self) -> Result<(Option<String>, i32), PgError> {
        let sql = format!("SELECT pg_catalog.current_setting('{MARK}', true), pg_catalog.pg_backend_pid()");
        let said = self.watched("seeing whose session it is", self.client.simple_query(&sql)).await?;
        let row = said.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some((row.get(0).map(str::to_owned), row.get(1)?.parse().ok()?)),
            _ => None,
        });
        Ok(row.unwrap_or_default())
    }

    /// Waits for what may have to wait for a lock. Where the server ends the wait, it is said for whom it was.
    pub async fn locking<T>(&self, work: impl Future<Output = Result<T, PgError>>) -> Result<T, PgError> {
        let (began, mut who) = (Instant::now(), None);
        let look = async {
            tokio::time::sleep(LOOK_AFTER).await;
            // This session waits: another one sees.
            let other = Self::open(&self.endpoint, &self.database, Pace::Short, &self.stop).await;
            while let Ok(other) = &other {
                // Whoever came first is whom it is about; that he is not seen for a moment says nothing.
                who = sessions::in_the_way(other, self.pid).await.ok().flatten().or(who.take());
                tokio::time::sleep(LOOK_EVERY).await;
            }
            std::future::pending::<Infallible>().await
        };
        let result = tokio::select! {
            biased;
            result = work => result,
            never = look => match never {},
        };
        match result {
            Err(PgError::Statement { server, doing, code: Some(code), .. }) if code == SqlState::LOCK_NOT_AVAILABLE.code() => {
                let who = who.unwrap_or_else(|| "another session's lock, whose is not known".into());
                Err(PgError::LockWait { server, doing, seconds: began.elapsed().as_secs(), who })
            }
            result => result,
        }
    }

    /// Host and port, for messages.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Rows of a statement.
    pub async fn query(&self, doing: &str, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, PgError> {
        self.watched(doing, self.client.query(sql, parameters)).await
    }

    /// The one row of a statement.
    pub async fn one(&self, doing: &str, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Row, PgError> {
        self.watched(doing, self.client.query_one(sql, parameters)).await
    }

    /// The row of a statement, if there is one.
    pub async fn maybe(&self, doing: &str, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Option<Row>, PgError> {
        self.watched(doing, self.client.query_opt(sql, parameters)).await
    }

    /// Statements without parameters and rows.
    pub async fn run(&self, doing: &str, sql: &str) -> Result<(), PgError> {
        self.watched(doing, self.client.batch_execute(sql)).await
    }

    /// For streams of COPY, inside of [`Self::watched`].
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Waits for what uses the session; cancels it when asked to stop.
    pub(super) async fn watched<T>(
        &self,
        doing: &str,
        statement: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, PgError> {
        tokio::select! {
            biased;
            result = statement => result.map_err(|error| PgError::Statement {
                server: self.server.clone(),
                doing: doing.to_owned(),
                cause: shown(&error),
                code: code(&error),
            }),
            () = self.stop.asked() => {
                self.cancel().await;
                Err(Stopped.into())
            }
        }
    }

    async fn cancel(&self) {
        let _ = tokio::time::timeout(CANCEL_TIMEOUT, self.cancel.cancel_query(self.wire.clone())).await;
    }
}

fn pooled(endpoint: &Endpoint, cause: String) -> PgError {
    PgError::Pooled { server: endpoint.server(), role: endpoint.user.clone(), cause }
}
