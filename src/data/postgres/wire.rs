//! The stream from a server to the driver: TLS as the Secret asks for it, and no message of COPY larger than a piece.
//!
//! The driver holds each message whole, and several of them at once. A message of COPY is a row, and a row may be hundreds of
//! megabytes large. So a large one reaches the driver as several messages: to COPY's text that is the same, because where a
//! row ends only its newline says.
//!
//! The driver asks for TLS by a message of the protocol, or begins with it at once. It is told to do the latter, so that both
//! kinds of stream pass here, with its own search for hosts, timeouts and keepalives below them.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_postgres::{
    Socket,
    tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream},
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::secret::SslMode;

/// A message of COPY is handed on in pieces of so many bytes.
const PIECE: u32 = 64 << 10;
/// What is read from the server at once.
const READ: usize = 64 << 10;
/// A message's type, and its length without it.
const HEADER: usize = 5;
/// The type of a message with a row of COPY.
const ROW: u8 = b'd';
/// What asks a server whether it speaks TLS: its own length, and a number that is no version.
const ASK_FOR_TLS: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

type Rustls = <MakeRustlsConnect as MakeTlsConnect<Socket>>::TlsConnect;
type Secure = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Makes streams, for the driver.
#[derive(Clone)]
pub struct Wire {
    /// How TLS is spoken.
    pub tls: MakeRustlsConnect,
    /// Whether it is.
    pub ssl: SslMode,
}

impl MakeTlsConnect<Socket> for Wire {
    type Stream = Pieces<Carrier>;
    type TlsConnect = Opening;
    type Error = Failure;

    fn make_tls_connect(&mut self, host: &str) -> Result<Opening, Failure> {
        let tls = match self.ssl {
            SslMode::Disable => None,
            SslMode::Prefer | SslMode::Require | SslMode::VerifyFull => {
                Some(MakeTlsConnect::<Socket>::make_tls_connect(&mut self.tls, host)?)
            }
        };
        Ok(Opening { tls, must: self.ssl != SslMode::Prefer })
    }
}

/// One stream, before anything was said.
pub struct Opening {
    tls: Option<Rustls>,
    must: bool,
}

impl TlsConnect<Socket> for Opening {
    type Stream = Pieces<Carrier>;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<Pieces<Carrier>, Failure>> + Send>>;

    fn connect(self, mut socket: Socket) -> Self::Future {
        Box::pin(async move {
            let Some(tls) = self.tls else { return Ok(Pieces::new(Carrier::Plain(socket))) };
            socket.write_all(&ASK_FOR_TLS).await?;
            // One byte and no more: what follows it is TLS's.
            let carrier = match socket.read_u8().await? {
                b'S' => Carrier::Secure(Box::new(tls.connect(socket).await?)),
                _ if self.must => return Err("server does not support TLS".into()),
                _ => Carrier::Plain(socket),
            };
            Ok(Pieces::new(carrier))
        })
    }
}

/// Bytes, encrypted or not.
pub enum Carrier {
    /// Not.
    Plain(Socket),
    /// Encrypted.
    Secure(Box<Secure>),
}

macro_rules! carried {
    ($self:expr, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Carrier::Plain(socket) => {
                let $stream = Pin::new(socket);
                $call
            }
            Carrier::Secure(secure) => {
                let $stream = Pin::new(secure.as_mut());
                $call
            }
        }
    };
}

impl AsyncRead for Carrier {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        carried!(self, stream => stream.poll_read(cx, into))
    }
}

impl AsyncWrite for Carrier {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        carried!(self, stream => stream.poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        carried!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        carried!(self, stream => stream.poll_shutdown(cx))
    }
}

impl TlsStream for Carrier {
    fn channel_binding(&self) -> ChannelBinding {
        match self {
            Self::Plain(_) => ChannelBinding::none(),
            Self::Secure(secure) => secure.channel_binding(),
        }
    }
}

/// What a server says, with each large row of COPY as several messages.
pub struct Pieces<S> {
    inner: S,
    read: Box<[u8]>,
    /// What of `read` is still to be handed on.
    left: std::ops::Range<usize>,
    /// A header, being collected or handed on.
    header: [u8; HEADER],
    /// So much of it came.
    came: usize,
    /// So much of it went.
    went: usize,
    /// Bytes of the message, or of the piece of it, that follow its header.
    body: u32,
    /// Bytes of the row beyond that.
    more: u32,
}

impl<S> Pieces<S> {
    fn new(inner: S) -> Self {
        let read = vec![0; READ].into_boxed_slice();
        Self { inner, read, left: 0..0, header: [0; HEADER], came: 0, went: 0, body: 0, more: 0 }
    }

    /// Hands on what was read, as far as there is room.
    fn hand_on(&mut self, into: &mut ReadBuf<'_>) {
        loop {
            if self.came < HEADER {
                let n = (HEADER - self.came).min(self.left.len());
                self.header[self.came..self.came + n].copy_from_slice(&self.read[self.left.start..self.left.start + n]);
                self.left.start += n;
                self.came += n;
                if self.came < HEADER {
                    return;
                }
                let [kind, length @ ..] = self.header;
                // It counts itself.
                self.body = u32::from_be_bytes(length).saturating_sub(4);
                if kind == ROW && self.body > PIECE {
                    self.more = self.body;
                    self.next_piece();
                }
            }
            if self.went < HEADER {
                let n = (HEADER - self.went).min(into.remaining());
                into.put_slice(&self.header[self.went..self.went + n]);
                self.went += n;
            }
            let n = into.remaining().min(self.left.len()).min(usize::try_from(self.body).unwrap_or(usize::MAX));
            into.put_slice(&self.read[self.left.start..self.left.start + n]);
            self.left.start += n;
            self.body = self.body.saturating_sub(u32::try_from(n).unwrap_or(u32::MAX));
            if self.went < HEADER || self.body > 0 {
                return;
            }
            if self.more > 0 {
                self.next_piece();
            } else {
                (self.came, self.went) = (0, 0);
            }
        }
    }

    fn next_piece(&mut self) {
        self.body = self.more.min(PIECE);
        self.more -= self.body;
        self.header[1..].copy_from_slice(&(self.body + 4).to_be_bytes());
        self.went = 0;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Pieces<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = into.filled().len();
        loop {
            this.hand_on(into);
            if into.filled().len() > before || into.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            // All that was read is handed on.
            let mut read = ReadBuf::new(&mut this.read);
            ready!(Pin::new(&mut this.inner).poll_read(cx, &mut read))?;
            this.left = 0..read.filled().len();
            if this.left.is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Pieces<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

impl<S: TlsStream + Unpin> TlsStream for Pieces<S> {
    fn channel_binding(&self) -> ChannelBinding {
        self.inner.channel_binding()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap();
        [&[kind][..], &length.to_be_bytes(), body].concat()
    }

    /// What comes out for what goes in, however it is cut.
    async fn through(all: &[u8], at_once: usize, room: usize) -> Vec<u8> {
        let mut pieces = Pieces::new(Bits(all.to_vec(), at_once));
        let (mut out, mut some) = (Vec::new(), vec![0; room]);
        loop {
            let n = pieces.read(&mut some).await.unwrap();
            if n == 0 {
                return out;
            }
            out.extend_from_slice(&some[..n]);
        }
    }

    struct Bits(Vec<u8>, usize);

    impl AsyncRead for Bits {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            let this = self.get_mut();
            let n = this.1.min(this.0.len()).min(into.remaining());
            into.put_slice(&this.0[..n]);
            this.0.drain(..n);
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn a_large_row_comes_as_several_messages_and_all_else_as_it_is() {
        let large: Vec<u8> = (0..300_000_u32).map(|i| b'a' + (i % 23) as u8).chain([b'\n']).collect();
        let whole = message(b'd', &large[..PIECE as usize]);
        let other = message(b'D', &large);
        let said =
            [message(b'Z', b"I"), message(b'd', b"a\tb\n"), message(b'd', b""), message(b'd', &large), whole, other].concat();
        let mut expected = [message(b'Z', b"I"), message(b'd', b"a\tb\n"), message(b'd', b"")].concat();
        for piece in large.chunks(PIECE as usize) {
            expected.extend(message(b'd', piece));
        }
        expected.extend([message(b'd', &large[..PIECE as usize]), message(b'D', &large)].concat());
        for (at_once, room) in [(usize::MAX, 8192), (7, 8192), (1, 3), (8192, 1), (100_000, 1_000_000)] {
            assert!(through(&said, at_once, room).await == expected, "{at_once} {room}");
        }
    }

    #[tokio::test]
    async fn a_stream_that_ends_within_a_message_ends() {
        for length in [0, 3, 5, 9] {
            let cut = &message(b'd', b"a\tb\tc\n")[..length];
            let came = through(cut, 2, 100).await;
            assert!(came.is_empty() || came == cut, "{length}");
        }
    }
}
