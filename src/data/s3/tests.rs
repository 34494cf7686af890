//! What servers answer that are not like the one of the other tests.

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    body::Bytes as Content,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri},
};

use super::*;

/// What a server has been asked.
type Asked = Arc<Mutex<Vec<String>>>;

/// A server that answers as a function says; its bucket, and what it has been asked.
fn server(answer: fn(&str, &HeaderMap, usize) -> (StatusCode, &'static str)) -> (Bucket, Asked, Runtime, tempfile::TempDir) {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let asked = Asked::default();
    let handler = async move |State(asked): State<Asked>, method: Method, uri: Uri, headers: HeaderMap, _: Content| {
        let mut all = asked.lock().unwrap();
        all.push(format!("{method} {uri}"));
        answer(method.as_str(), &headers, all.len())
    };
    let app = Router::new().fallback(handler).with_state(asked.clone());
    let listener = runtime.block_on(tokio::net::TcpListener::bind(("127.0.0.1", 0))).unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    runtime.spawn(async move { axum::serve(listener, app).await });
    let credentials = tempfile::tempdir().unwrap();
    fs::write(credentials.path().join("accessKeyId"), "key").unwrap();
    fs::write(credentials.path().join("secretAccessKey"), "secret").unwrap();
    let location = Location { endpoint, region: "r".into(), bucket: "b".into(), prefix: "p".into() };
    (Bucket::new(location, credentials.path()).unwrap(), asked, runtime, credentials)
}

#[test]
fn a_server_without_conditions_is_written_to_without_and_a_condition_that_failed_is_no_error() {
    let (bucket, asked, _runtime, _credentials) = server(|_, headers, _| match headers.get("if-none-match") {
        Some(_) => (StatusCode::NOT_IMPLEMENTED, "<Error><Code>NotImplemented</Code></Error>"),
        None => (StatusCode::OK, ""),
    });
    assert_eq!(bucket.create("config", "x".into()), Ok(true));
    assert_eq!(asked.lock().unwrap().as_slice(), ["PUT /b/p/config", "PUT /b/p/config"]);
    let (bucket, _, _runtime, _credentials) =
        server(|_, _, _| (StatusCode::PRECONDITION_FAILED, "<Error><Code>PreconditionFailed</Code></Error>"));
    assert_eq!(bucket.create("config", "x".into()), Ok(false));
}

#[test]
fn a_server_that_is_busy_is_asked_again_and_one_that_refuses_is_not() {
    let (bucket, asked, _runtime, _credentials) = server(|_, _, count| match count {
        1 => (StatusCode::SERVICE_UNAVAILABLE, "<Error><Code>SlowDown</Code></Error>"),
        _ => (StatusCode::NOT_FOUND, "<Error><Code>NoSuchKey</Code></Error>"),
    });
    assert_eq!(bucket.get("x"), Ok(None));
    assert_eq!(asked.lock().unwrap().len(), 2);
    let (bucket, asked, _runtime, _credentials) =
        server(|_, _, _| (StatusCode::FORBIDDEN, "<Error><Code>AccessDenied</Code><Message>secret</Message></Error>"));
    assert_eq!(bucket.get("x").unwrap_err().reason(), "S3Denied");
    assert_eq!(asked.lock().unwrap().len(), 1);
    // What is no S3 server is never taken for an empty bucket.
    let (bucket, _, _runtime, _credentials) = server(|_, _, _| (StatusCode::NOT_FOUND, "<html>not here</html>"));
    assert_eq!(bucket.get("x").unwrap_err().reason(), "S3AnswerStrange");
    assert_eq!(bucket.list("x").unwrap_err().reason(), "S3AnswerStrange");
    let (bucket, _, _runtime, _credentials) = server(|_, _, _| (StatusCode::OK, "<html>welcome</html>"));
    assert_eq!(bucket.list("x").unwrap_err().reason(), "S3AnswerStrange");
}

#[test]
fn a_part_is_of_the_wanted_length_or_an_error() {
    let (bucket, _, _runtime, _credentials) = server(|_, _, _| (StatusCode::OK, "0123456789"));
    assert_eq!(bucket.part("x", 2, 3), Ok(Bytes::from("234")), "a server that does not know ranges gives all");
    assert_eq!(bucket.part("x", 8, 3).unwrap_err().reason(), "RepositoryDamaged");
    let (bucket, _, _runtime, _credentials) = server(|_, _, _| (StatusCode::PARTIAL_CONTENT, "01"));
    assert_eq!(bucket.part("x", 2, 3).unwrap_err().reason(), "RepositoryDamaged");
    let (bucket, _, _runtime, _credentials) =
        server(|_, _, _| (StatusCode::RANGE_NOT_SATISFIABLE, "<Error><Code>InvalidRange</Code></Error>"));
    assert_eq!(bucket.part("x", 2, 3).unwrap_err().reason(), "RepositoryDamaged");
}
