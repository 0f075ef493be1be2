//! What a sandbox's limits do to runs, and what they leave alone.

#![allow(clippy::unwrap_used, reason = "tests may")]

mod common;

use std::time::Duration;

use common::{Agent, limited, python, python_in, refused, run, shell, start, until};
use wire::Code;
use wire::v1::outcome::How;
use wire::v1::{Empty, StatRequest};

/// F1: who starts processes without end meets the limit; others are answered, and of it nothing is left.
#[tokio::test]
async fn a_fork_bomb_meets_the_limit_while_the_agent_answers() {
    let agent = Agent::start_with_pids(60);
    let mut client = agent.client().await;
    run(&mut client, "before", python_in("other", "x = 6")).await;
    let bomb = "import os, time\nprint('lit')\nwhile True:\n    try:\n        if os.fork() == 0:\n            time.sleep(0.05)\n    except OSError:\n        print('full', flush=True)\n        time.sleep(0.05)";
    let command = format!("exec python3 -c \"{bomb}\"");
    let limit = Duration::from_secs(4);
    let mut bombed = start(&mut client, "bomb", limited(shell(&command), limit), 0).await.unwrap();
    until(&mut bombed, "full").await;
    let hello = client.stat(StatRequest { path: ".".to_owned(), sha256: false }).await;
    assert!(hello.is_ok(), "{hello:?}");
    let answered = run(&mut client, "during", python_in("other", "x * 7")).await;
    assert_eq!((answered.how(), answered.result()), (How::Exited(0), Some("42")));
    let more = refused(&mut client, "more", shell("true")).await;
    assert_eq!(more.code, Code::TooMany, "{more}");
    let bombed = common::see(bombed).await;
    assert_eq!(bombed.how(), How::TimedOut(Empty {}));
    let after = run(&mut client, "after", python("'again'")).await;
    assert_eq!(after.result(), Some("'again'"));
}
