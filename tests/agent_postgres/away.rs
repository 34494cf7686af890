//! A server that goes away and comes back while a run holds the lock.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use lockkeeper::manifest::task::exit;
use serde_json::json;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};

use super::postgres::{World, free_port};

/// Lets the agent reach the server through a port at which nobody listens yet.
fn led_astray(world: &World) -> u16 {
    let port = free_port();
    for which in ["connection", "admin"] {
        world.lead(which, port);
    }
    port
}

/// Listens there after a while, cuts the first connections off in the middle of a word, then serves. How often it was tried.
fn comes_back(port: u16, server: u16, after: Duration, cut: usize) -> Arc<AtomicUsize> {
    let tried = Arc::new(AtomicUsize::new(0));
    let count = tried.clone();
    tokio::spawn(async move {
        tokio::time::sleep(after).await;
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        loop {
            let mut client = listener.accept().await.unwrap().0;
            if count.fetch_add(1, Ordering::SeqCst) < cut {
                continue;
            }
            let mut server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
            tokio::spawn(async move { copy_bidirectional(&mut client, &mut server).await });
        }
    });
    tried
}

#[tokio::test]
async fn under_the_lock_a_server_that_restarts_is_waited_for_and_before_it_nobody_waits() {
    let world = World::new("away").await;
    let port = led_astray(&world);
    let early = world.done(&world.task_with("preflight", json!({}))).await;
    assert!(early.checks.iter().any(|c| !c.passed && c.message.contains("cannot connect")), "{early:?}");
    world.refused(&world.task_with("backup", json!({})), exit::RETRYABLE, "ServerUnreachable").await;

    let tried = comes_back(port, world.server.port, Duration::from_millis(700), 2);
    world.ok("fence", 1).await;
    assert!(tried.load(Ordering::SeqCst) > 2, "it was cut off twice");
    assert_eq!(world.state().await.0, "fenced");
    for verb in ["undo", "rollback", "release"] {
        world.ok(verb, 1).await;
    }
}
