//! The bridge: bytes whole in both directions, and no process that outlives its use.

#![allow(clippy::unwrap_used, reason = "tests may")]

mod common;

use std::io::{Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

/// How much is carried, in bytes.
const LENGTH: usize = 100 << 20;

fn bridge(socket: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_agent"))
        .args(["connect", socket])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn listen(name: &str) -> (UnixListener, String) {
    let name = format!("codesandbox-bridge-{name}-{}", std::process::id());
    (UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap(), name)
}

fn ended(mut child: Child) -> i32 {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code().unwrap();
        }
        assert!(Instant::now() < deadline, "the bridge does not end");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_hundred_mebibytes_cross_both_ways_at_once() {
    let (listener, name) = listen("bulk");
    let echo = thread::spawn(move || {
        let (mut from, _) = listener.accept().unwrap();
        let mut to = from.try_clone().unwrap();
        let mut buffer = [0; 10_000];
        let mut left = LENGTH;
        while left > 0 {
            let read = from.read(&mut buffer).unwrap();
            to.write_all(&buffer[..read]).unwrap();
            left -= read;
        }
    });
    let mut child = bridge(&name);
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let data: Vec<u8> = (0..LENGTH).map(|i| u8::try_from(i % 251).unwrap()).collect();
    let hash = Sha256::digest(&data);
    // Held open to the end: the bridge ends with its stdin.
    let write = thread::spawn(move || {
        stdin.write_all(&data).unwrap();
        stdin
    });
    let mut back = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    let mut left = LENGTH;
    while left > 0 {
        let read = stdout.read(&mut buffer).unwrap();
        assert!(read > 0, "{left} bytes are missing");
        back.update(&buffer[..read]);
        left -= read;
    }
    assert_eq!(back.finalize(), hash);
    echo.join().unwrap();
    drop(write.join().unwrap());
    assert_eq!(ended(child), 0);
}

#[test]
fn the_bridge_ends_with_either_side() {
    let (listener, name) = listen("ends");
    let mut child = bridge(&name);
    let (socket, _) = listener.accept().unwrap();
    drop(child.stdin.take());
    assert_eq!(ended(child), 0);
    drop(socket);
    let child = bridge(&name);
    drop(listener.accept().unwrap());
    assert_eq!(ended(child), 0);
}

#[test]
fn without_an_agent_the_bridge_says_so() {
    let mut child = bridge("codesandbox-nobody-listens");
    let mut message = String::new();
    child.stderr.take().unwrap().read_to_string(&mut message).unwrap();
    assert!(message.contains("could not bridge"), "{message}");
    assert_eq!(ended(child), 1);
}
