//! The maintenance page: 503 to everyone, with words for people and JSON for programs. Nothing of the inside is told.

use std::{path::Path, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::Response,
};
use futures::StreamExt;
use tokio::net::TcpListener;

use super::{
    Context,
    error::{AgentError, files},
};
use crate::{
    data::stop::Stop,
    manifest::{page::INDEX, task::PAGE_DIR},
};

/// The path of the kubelet's readiness probe.
pub const READY_PATH: &str = "/lockkeeper-ready";
const DEFAULT_PORT: u16 = 8080;
const DEFAULT_RETRY: u64 = 30;
/// What is in flight when the page ends may take so long.
const FAREWELL: Duration = Duration::from_secs(2);
/// So much of a request's body is read and dropped, so that the client gets to read the answer.
const DRAIN_BYTES: usize = 1 << 30;
const DRAIN_TIME: Duration = Duration::from_secs(60);

#[derive(Clone)]
struct Page {
    retry_after: u64,
    html: String,
    json: String,
}

pub async fn run(context: &Context<'_>) -> Result<(), AgentError> {
    let port = context.task.port.unwrap_or(DEFAULT_PORT);
    let listener = TcpListener::bind(("0.0.0.0", port)).await.map_err(files(format!("listening on port {port} for the page")))?;
    let mut page = Page::new(&context.task.environment_name, context.task.retry_after_seconds.unwrap_or(DEFAULT_RETRY));
    if let Some(own) = own_page(Path::new(PAGE_DIR)) {
        page.html = own;
    }
    serve(listener, page, context.stop.clone()).await
}

/// The environment's own page, where there is one.
fn own_page(directory: &Path) -> Option<String> {
    let bytes = std::fs::read(directory.join(INDEX)).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned()).filter(|text| !text.trim().is_empty())
}

async fn serve(listener: TcpListener, page: Page, stop: Stop) -> Result<(), AgentError> {
    let router = Router::new().fallback(answer).with_state(page);
    let asked = stop.clone();
    let served = axum::serve(listener, router).with_graceful_shutdown(async move { asked.asked().await });
    tokio::select! {
        served = async { served.await } => served.map_err(files("serving the page")),
        () = async { stop.asked().await; tokio::time::sleep(FAREWELL).await } => Ok(()),
    }
}

impl Page {
    fn new(environment: &str, retry_after: u64) -> Self {
        // The namespace is nobody's business out there.
        let name = environment.rsplit('/').next().unwrap_or(environment);
        let escaped = name.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
        let html = format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"robots\" content=\"noindex\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta http-equiv=\"refresh\" content=\"{retry_after}\">\n<title>Back soon</title>\n<style>\n\
             body {{ font-family: system-ui, sans-serif; max-width: 36rem; margin: 20vh auto; padding: 0 1.5rem; line-height: 1.5; }}\n\
             @media (prefers-color-scheme: dark) {{ body {{ background: #16181c; color: #e6e6e6; }} }}\n\
             </style>\n</head>\n<body>\n<h1>Back soon</h1>\n\
             <p>A new release of <strong>{escaped}</strong> is being delivered. Your data is safe.</p>\n\
             <p>This page tries again by itself every {retry_after} seconds.</p>\n</body>\n</html>\n"
        );
        let json = serde_json::json!({
            "status": 503,
            "title": "Back soon",
            "detail": format!("A new release of {name} is being delivered. Your data is safe. Try again in {retry_after} seconds."),
            "environment": name,
            "retryAfterSeconds": retry_after,
        });
        Self { retry_after, html, json: json.to_string() }
    }
}

async fn answer(State(page): State<Page>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let probe = parts.uri.path() == READY_PATH && is_kubelet(&parts.headers);
    if !probe {
        let _ = tokio::time::timeout(DRAIN_TIME, drain(body)).await;
    }
    let (kind, text) = match (probe, wants_json(&parts.headers)) {
        (true, _) => ("text/plain; charset=utf-8", "ready\n".to_owned()),
        (false, true) => ("application/json", page.json),
        (false, false) => ("text/html; charset=utf-8", page.html),
    };
    let length = text.len();
    let body = if parts.method == Method::HEAD { Body::empty() } else { Body::from(text) };
    let mut response = Response::new(body);
    *response.status_mut() = if probe { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    // A kept connection would still lead here when the Service leads to the application again.
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    if !probe {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(page.retry_after));
    }
    response
}

async fn drain(body: Body) {
    let mut stream = body.into_data_stream();
    let mut read = 0;
    while let Some(Ok(chunk)) = stream.next().await {
        read += chunk.len();
        if read > DRAIN_BYTES {
            return;
        }
    }
}

/// The kubelet's probe must see the page ready, while a check of the application's readiness must see the maintenance.
fn is_kubelet(headers: &HeaderMap) -> bool {
    headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok()).is_some_and(|agent| agent.starts_with("kube-probe/"))
}

/// Whether JSON is asked for, and not HTML before it.
fn wants_json(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let mut best: (f32, bool) = (0.0, false);
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
        let quality = parts.find_map(|p| p.strip_prefix("q=")).and_then(|q| q.parse().ok()).unwrap_or(1.0_f32);
        let json = kind == "application/json" || kind.ends_with("+json");
        let html = kind == "text/html" || kind == "application/xhtml+xml";
        if (json || html) && quality > best.0 {
            best = (quality, json);
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    use super::*;
    use crate::data::stop;

    async fn page() -> (u16, stop::Stopper, tokio::task::JoinHandle<Result<(), AgentError>>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (stopper, stop) = stop::channel();
        let served = tokio::spawn(serve(listener, Page::new("shop-production/<shop>", 7), stop));
        (port, stopper, served)
    }

    async fn ask(port: u16, request: &str, body: &[u8]) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.write_all(body).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn everyone_gets_503_but_the_kubelet() {
        let (port, _stopper, _) = page().await;
        let html = ask(port, "GET /x HTTP/1.1\r\nHost: h\r\nAccept: text/html,*/*\r\n\r\n", b"").await;
        let lower = html.to_lowercase();
        assert!(html.starts_with("HTTP/1.1 503"), "{html}");
        for part in ["retry-after: 7", "cache-control: no-store", "connection: close", "&lt;shop&gt;", "data is safe"] {
            assert!(lower.contains(part), "{part}: {html}");
        }
        assert!(!html.contains("shop-production"));
        let json = ask(port, "DELETE /x HTTP/1.1\r\nHost: h\r\nAccept: application/json\r\n\r\n", b"").await;
        assert!(json.starts_with("HTTP/1.1 503") && json.contains("\"retryAfterSeconds\":7"), "{json}");
        let head = ask(port, "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n", b"").await;
        assert!(head.starts_with("HTTP/1.1 503") && head.ends_with("\r\n\r\n"), "{head}");
        let probe = format!("GET {READY_PATH} HTTP/1.1\r\nHost: h\r\nUser-Agent: ");
        assert!(ask(port, &format!("{probe}kube-probe/1.34\r\n\r\n"), b"").await.starts_with("HTTP/1.1 200"));
        assert!(ask(port, &format!("{probe}curl/8\r\n\r\n"), b"").await.starts_with("HTTP/1.1 503"));
    }

    #[tokio::test]
    async fn a_large_body_gets_its_answer_and_a_signal_ends_the_page() {
        let (port, stopper, served) = page().await;
        let body = vec![b'x'; 8 << 20];
        let request = format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", body.len());
        assert!(ask(port, &request, &body).await.starts_with("HTTP/1.1 503"));
        let _idle = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stopper.stop();
        tokio::time::timeout(Duration::from_secs(4), served).await.unwrap().unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_page_of_ones_own_is_seen_by_people_with_the_same_status() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(own_page(directory.path()), None);
        std::fs::write(directory.path().join(INDEX), "<h1>Volvemos pronto</h1>").unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (_stopper, stop) = stop::channel();
        let html = own_page(directory.path()).unwrap();
        tokio::spawn(serve(listener, Page { html, ..Page::new("shop-production/shop", 7) }, stop));
        let people = ask(port, "GET / HTTP/1.1\r\nHost: h\r\nAccept: text/html\r\n\r\n", b"").await;
        assert!(people.starts_with("HTTP/1.1 503") && people.ends_with("<h1>Volvemos pronto</h1>"), "{people}");
        let program = ask(port, "GET / HTTP/1.1\r\nHost: h\r\nAccept: application/json\r\n\r\n", b"").await;
        assert!(program.contains("\"status\":503") && !program.contains("Volvemos"), "{program}");
    }

    #[test]
    fn json_is_for_who_prefers_it() {
        for (accept, json) in [
            ("application/json", true),
            ("application/problem+json, */*", true),
            ("text/html,application/json;q=0.9", false),
            ("text/html;q=0.5, application/json", true),
            ("*/*", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            assert_eq!(wants_json(&headers), json, "{accept}");
        }
    }
}
