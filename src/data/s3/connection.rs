//! The way to the server: a connection for each request that is under way, kept for the next one.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr},
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::{
    Request, Uri,
    body::{Frame, SizeHint},
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::{S3Error, answer};
use crate::data::postgres::{error::one_line, tls};

const CONNECT: Duration = Duration::from_secs(10);
/// So long nothing may come.
const SILENCE: Duration = Duration::from_secs(30);
/// So many bytes a second go out at least.
const SLOWEST: u64 = 64 << 10;
/// No object of a repository is as large.
const LARGEST: usize = 512 << 20;
/// So many connections wait for their next request.
const IDLE: usize = 16;

/// A server.
pub struct Server {
    /// As the endpoint names it.
    pub name: String,
    /// The header Host.
    pub host_header: String,
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    idle: Mutex<Vec<SendRequest<Body>>>,
}

/// An answer, all of it.
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: Bytes,
    /// The bucket's region, where the server says it.
    pub region: Option<String>,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The code, where it says that something went wrong.
    pub fn code(&self) -> String {
        if self.status < 300 { String::new() } else { answer::error(&self.text()).code }
    }

    /// Whether the same request may be answered otherwise in a moment.
    pub fn busy(&self) -> bool {
        matches!(self.status, 429 | 500 | 502 | 503 | 504) || (self.status == 400 && self.code() == "RequestTimeout")
    }
}

impl Server {
    /// The server of an endpoint. `authority`: a file with certificates that are trusted instead of those of the image.
    pub fn new(endpoint: &str, authority: Option<&Path>) -> Result<Self, S3Error> {
        // What stands before an @ may be a password.
        let shown = endpoint.rsplit('@').next().unwrap_or_default();
        let bad = |problem| S3Error::Endpoint { endpoint: shown.to_owned(), problem };
        let uri: Uri = endpoint.parse().map_err(|_| bad("is no URL"))?;
        let (secure, usual) = match uri.scheme_str() {
            Some("http") => (false, 80),
            Some("https") => (true, 443),
            _ => return Err(bad("must begin with http:// or https://")),
        };
        let place = uri.authority().filter(|a| !a.as_str().contains('@')).ok_or_else(|| bad("must name a host and no user"))?;
        if uri.path() != "/" || uri.query().is_some() {
            return Err(bad("must end with the host or its port: name bucket and prefix in fields of their own"));
        }
        let host = place.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let tls = match secure {
            false => None,
            true => {
                let server = || endpoint.to_owned();
                let config = tls::client(authority).map_err(|cause| S3Error::Untrusted { server: server(), cause })?;
                let name = ServerName::try_from(host.clone()).map_err(|_| bad("names a host that no certificate can name"))?;
                Some((TlsConnector::from(Arc::new(config)), name))
            }
        };
        let port = place.port_u16().unwrap_or(usual);
        let host_header = if port == usual { place.host().to_owned() } else { format!("{}:{port}", place.host()) };
        Ok(Self { name: endpoint.trim_end_matches('/').to_owned(), host_header, host, port, tls, idle: Mutex::default() })
    }

    /// Sends a request and reads the whole answer.
    pub async fn send(&self, request: Request<Body>) -> Result<Answer, S3Error> {
        let mut sender = self.connection().await?;
        let enough = SILENCE + Duration::from_secs(request.body().left / SLOWEST);
        let late = |_| self.away("nothing came for too long");
        let sent = timeout(enough, sender.send_request(request)).await.map_err(late)?;
        let mut answer = sent.map_err(|error| self.away(&told(&error)))?;
        let header = |name: &str| answer.headers().get(name).and_then(|v| v.to_str().ok()).map(one_line);
        let (status, region) = (answer.status().as_u16(), header("x-amz-bucket-region"));
        let mut body = BytesMut::new();
        while let Some(frame) = timeout(SILENCE, answer.frame()).await.map_err(late)? {
            let frame = frame.map_err(|error| self.away(&told(&error)))?;
            if let Ok(data) = frame.into_data() {
                body.extend_from_slice(&data);
            }
            if body.len() > LARGEST {
                return Err(S3Error::Strange { server: self.name.clone(), what: "an answer without end".into() });
            }
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE && !sender.is_closed() {
            idle.push(sender);
        }
        Ok(Answer { status, body: body.freeze(), region })
    }

    async fn connection(&self) -> Result<SendRequest<Body>, S3Error> {
        loop {
            let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some(mut sender) = idle else { break };
            if !sender.is_closed() && timeout(Duration::from_secs(1), sender.ready()).await.is_ok_and(|r| r.is_ok()) {
                return Ok(sender);
            }
        }
        timeout(CONNECT, self.connect()).await.map_err(|_| self.away("no connection within 10 s"))?
    }

    async fn connect(&self) -> Result<SendRequest<Body>, S3Error> {
        let away = |error: io::Error| self.away(&error.to_string());
        let found: Vec<SocketAddr> = lookup_host((self.host.as_str(), self.port)).await.map_err(away)?.collect();
        let allowed: Vec<SocketAddr> = found.iter().copied().filter(|a| !is_metadata(a.ip())).collect();
        if allowed.is_empty() && !found.is_empty() {
            let problem = "leads to an address where clouds give credentials away: name an S3 server";
            return Err(S3Error::Endpoint { endpoint: self.name.clone(), problem });
        }
        let stream = TcpStream::connect(allowed.as_slice()).await.map_err(away)?;
        stream.set_nodelay(true).map_err(away)?;
        match &self.tls {
            None => self.handshake(stream).await,
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), stream).await.map_err(|error| match error.get_ref() {
                    Some(cause) if cause.downcast_ref().is_some_and(|e| matches!(e, rustls::Error::InvalidCertificate(_))) => {
                        S3Error::Untrusted { server: self.name.clone(), cause: one_line(&error.to_string()) }
                    }
                    _ => away(error),
                })?;
                self.handshake(stream).await
            }
        }
    }

    async fn handshake(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<SendRequest<Body>, S3Error> {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.away(&told(&error)))?;
        // What becomes of it, its requests say.
        tokio::spawn(connection);
        Ok(sender)
    }

    fn away(&self, cause: &str) -> S3Error {
        S3Error::Unreachable { server: self.name.clone(), cause: one_line(cause) }
    }
}

/// The library says the cause one level down.
fn told(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// Addresses at which a cloud tells whoever asks what the node may do.
fn is_metadata(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(ip) => ip.is_link_local() || ip.octets() == [100, 100, 100, 200] || ip.octets() == [192, 0, 0, 192],
        IpAddr::V6(ip) => ip.segments()[0] & 0xffc0 == 0xfe80 || ip.segments() == [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254],
    }
}

/// A body that is there, in parts. Copies share them.
#[derive(Clone, Default)]
pub struct Body {
    parts: VecDeque<Bytes>,
    left: u64,
}

impl Body {
    /// A body of these parts.
    pub fn new(parts: Vec<Bytes>) -> Self {
        let left = parts.iter().map(|part| u64::try_from(part.len()).unwrap_or(u64::MAX)).sum();
        Self { parts: parts.into_iter().filter(|part| !part.is_empty()).collect(), left }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let part = self.parts.pop_front();
        self.left -= part.as_ref().map_or(0, |part| u64::try_from(part.len()).unwrap_or(self.left));
        Poll::Ready(part.map(|part| Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.parts.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_server_and_nothing_more() {
        let header = |endpoint: &str| Server::new(endpoint, None).map(|s| s.host_header).map_err(|e| e.to_string());
        assert_eq!(header("http://s3.example.org:80").unwrap(), "s3.example.org");
        assert_eq!(header("https://s3.example.org:9000/").unwrap(), "s3.example.org:9000");
        assert_eq!(header("http://[::1]:7070").unwrap(), "[::1]:7070");
        for (bad, words) in [
            ("file:///etc/passwd", "URL"),
            ("s3.example.org", "http"),
            ("https://key:secret@s3.example.org", "no user"),
            ("https://s3.example.org/bucket", "fields of their own"),
            ("https://s3.example.org/?a=b", "fields of their own"),
            ("https://", "URL"),
        ] {
            let said = header(bad).unwrap_err();
            assert!(said.contains(words) && !said.contains("secret"), "{bad}: {said}");
        }
    }

    #[tokio::test]
    async fn an_endpoint_that_leads_to_a_clouds_metadata_is_not_asked() {
        for endpoint in
            ["http://169.254.169.254", "http://[fd00:ec2::254]", "http://100.100.100.200", "http://[::ffff:169.254.169.254]"]
        {
            let server = Server::new(endpoint, None).unwrap();
            let error = server.send(Request::new(Body::default())).await.err().unwrap();
            assert_eq!(error.reason(), "S3EndpointInvalid", "{endpoint}: {error}");
        }
    }
}
