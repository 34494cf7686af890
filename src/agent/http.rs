//! Asks a URL until the answer's status is the expected one. Redirects are answers like others; one connection an attempt.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http_body_util::Empty;
use hyper::{Request, Uri, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use super::{Context, error::AgentError};

const PAUSE: Duration = Duration::from_millis(500);
const ATTEMPT: Duration = Duration::from_secs(10);
const DEFAULT_TIMEOUT: u64 = 60;

pub async fn run(context: &Context<'_>) -> Result<(), AgentError> {
    let url = context.task.url.as_deref().ok_or_else(|| AgentError::Task("verb http needs a URL".into()))?;
    let target = Target::parse(url)?;
    let expected = context.task.expect_status.unwrap_or(200);
    let timeout = Duration::from_secs(context.task.timeout_seconds.unwrap_or(DEFAULT_TIMEOUT));
    let began = Instant::now();
    let mut attempts = 0;
    loop {
        attempts += 1;
        super::progress::say(&format!("asking {}", target.shown), attempts, "attempts");
        let left = timeout.saturating_sub(began.elapsed()).clamp(Duration::from_millis(100), ATTEMPT);
        let last = tokio::select! {
            () = context.stop.asked() => return Err(crate::data::stop::Stopped.into()),
            answer = tokio::time::timeout(left, target.ask()) => match answer {
                Ok(Ok(status)) if status == expected => return Ok(()),
                Ok(Ok(status)) => format!("the last answer was {status}"),
                Ok(Err(cause)) => format!("there was no answer: {cause}"),
                Err(_) => format!("there was no answer within {:.1} s", left.as_secs_f64()),
            },
        };
        if began.elapsed() + PAUSE > timeout {
            return Err(AgentError::Http(format!(
                "{}: expected {expected} within {} s, {last}, after {attempts} attempts",
                target.shown,
                timeout.as_secs()
            )));
        }
        context.stop.pause(PAUSE).await?;
    }
}

/// Where to ask what.
struct Target {
    tls: Option<(TlsConnector, ServerName<'static>)>,
    host: String,
    port: u16,
    authority: String,
    path: String,
    /// Without query, which may carry a token.
    shown: String,
}

impl Target {
    fn parse(url: &str) -> Result<Self, AgentError> {
        let bad = |problem: &str| AgentError::Task(format!("the URL {problem}"));
        let uri: Uri = url.parse().map_err(|_| bad("is not one"))?;
        let authority = uri.authority().ok_or_else(|| bad("names no host"))?;
        if authority.as_str().contains('@') {
            return Err(bad("carries credentials; nothing secret belongs into an Environment"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let (tls, port) = match uri.scheme_str() {
            Some("http") => (None, 80),
            Some("https") => {
                let name = ServerName::try_from(host.clone()).map_err(|_| bad("names a host that no certificate can name"))?;
                (Some((connector()?, name)), 443)
            }
            _ => return Err(bad("must begin with http:// or https://")),
        };
        Ok(Self {
            tls,
            port: authority.port_u16().unwrap_or(port),
            authority: authority.as_str().to_owned(),
            path: uri.path_and_query().map_or("/".to_owned(), ToString::to_string),
            shown: format!("GET {}://{}{}", uri.scheme_str().unwrap_or_default(), authority, uri.path()),
            host,
        })
    }

    /// The status of one answer.
    async fn ask(&self) -> Result<u16, String> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await.map_err(|error| error.to_string())?;
        match &self.tls {
            None => self.exchange(stream).await,
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), stream).await.map_err(|error| error.to_string())?;
                self.exchange(stream).await
            }
        }
    }

    async fn exchange(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<u16, String> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        let driver = tokio::spawn(connection);
        let request = Request::get(&self.path)
            .header(header::HOST, &self.authority)
            .header(header::USER_AGENT, concat!("lockkeeper/", env!("CARGO_PKG_VERSION")))
            .header(header::ACCEPT, "*/*")
            .header(header::CONNECTION, "close")
            .body(Empty::<Bytes>::new())
            .map_err(|error| error.to_string())?;
        let answer = sender.send_request(request).await.map_err(|error| error.to_string());
        driver.abort();
        Ok(answer?.status().as_u16())
    }
}

fn connector() -> Result<TlsConnector, AgentError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| AgentError::Http(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::{Router, http::StatusCode, response::Redirect, routing::get};

    use super::*;
    use crate::{
        agent::{Paths, perform},
        data::stop,
        manifest::task::{Task, exit},
    };

    async fn serve() -> u16 {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(AtomicUsize::new(0));
        let third = move || {
            let asked = asked.clone();
            async move { if asked.fetch_add(1, Ordering::SeqCst) < 2 { StatusCode::BAD_GATEWAY } else { StatusCode::OK } }
        };
        let router = Router::new()
            .route("/third", get(third))
            .route("/away", get(|| async { Redirect::temporary("/third") }))
            .route("/slow", get(|| tokio::time::sleep(Duration::from_secs(60))));
        tokio::spawn(async move { axum::serve(listener, router).await });
        port
    }

    fn task(url: String, seconds: u64) -> Task {
        let json = serde_json::json!({"verb": "http", "run": "r", "runName": "n", "environment": "e", "environmentName": "x",
            "url": url, "timeoutSeconds": seconds});
        serde_json::from_value(json).unwrap()
    }

    #[tokio::test]
    async fn it_asks_until_the_status_is_right_and_else_tells_the_last_answer() {
        let port = serve().await;
        let ask = async |path: &str, seconds| {
            perform(&task(format!("http://127.0.0.1:{port}{path}"), seconds), &Paths::default(), stop::Stop::never()).await
        };
        assert_eq!(ask("/third", 5).await.0, exit::DONE);
        for (path, part) in [("/away?token=s3cret", "was 307"), ("/none", "was 404"), ("/slow", "no answer within")] {
            let (code, outcome) = ask(path, 1).await;
            let message = outcome.error.unwrap().message;
            assert_eq!(code, exit::PERMANENT);
            assert!(message.contains(part) && !message.contains("s3cret"), "{message}");
        }
    }

    #[tokio::test]
    async fn it_ends_at_once_when_asked_to_stop_and_refuses_strange_urls() {
        let (stopper, stop) = stop::channel();
        stopper.stop();
        let (code, _) = perform(&task("http://127.0.0.1:1/".into(), 60), &Paths::default(), stop).await;
        assert_eq!(code, exit::RETRYABLE);
        for url in ["file:///etc/passwd", "/x", "http://u:p@h/", "gopher://h/"] {
            let (code, outcome) = perform(&task(url.into(), 1), &Paths::default(), stop::Stop::never()).await;
            assert_eq!((code, outcome.error.unwrap().reason.as_str()), (exit::PERMANENT, "TaskInvalid"));
        }
    }
}
