//! Contexts by name: made, listed, interrupted and deleted.

#![allow(clippy::unwrap_used, reason = "tests may")]

mod common;

use std::collections::BTreeMap;
use std::fs;

use common::{
    Agent, Client, create, delete, known, lives, python_in, run, see, start, until, until_no_zombie,
};
use wire::v1::outcome::How;
use wire::v1::{
    ContextInfo, ContextsRequest, CreateContextRequest, Empty, InterruptContextRequest,
};
use wire::{Code, Error};

async fn list(client: &mut Client) -> Vec<ContextInfo> {
    client.contexts(ContextsRequest {}).await.unwrap().into_inner().contexts
}

async fn names(client: &mut Client) -> Vec<String> {
    list(client).await.into_iter().map(|context| context.name).collect()
}

async fn interrupt(client: &mut Client, name: &str) -> Result<String, Error> {
    let request = InterruptContextRequest { name: name.to_owned() };
    let reply = client.interrupt_context(request).await;
    reply.map(|reply| reply.into_inner().run_id).map_err(|status| common::ours(&status))
}

#[tokio::test]
async fn a_context_has_a_directory_and_variables_of_its_own() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    fs::create_dir(agent.workspace().join("here")).unwrap();
    let env = BTreeMap::from([("GREETING".to_owned(), "good 'morning'\n".to_owned())]);
    for language in ["python", "bash"] {
        let request = CreateContextRequest {
            name: format!("my-{language}"),
            language: language.to_owned(),
            cwd: "here".to_owned(),
            env: env.clone(),
        };
        let made = client.create_context(request.clone()).await.unwrap().into_inner();
        assert!(!made.existed);
        let made = made.context.unwrap();
        assert_eq!((made.executions, made.last_used_unix_ms, &made.running[..]), (0, 0, ""));
        assert_eq!(made.cwd, agent.workspace().join("here").display().to_string());
        // Asked for again, it is there.
        let again = client.create_context(request.clone()).await.unwrap().into_inner();
        assert!(again.existed && again.context.unwrap() == made);
        // With something else it is another one.
        let other = CreateContextRequest { env: BTreeMap::new(), ..request };
        let other = client.create_context(other).await.unwrap_err();
        assert_eq!(common::ours(&other).code, Code::AlreadyExists);
    }
    let python = "import os; os.getcwd().endswith('/workspace/here'), os.environ['GREETING']";
    let seen = run(&mut client, "a", python_in("my-python", python)).await;
    assert_eq!(seen.result(), Some(r#"(True, "good 'morning'\n")"#));
    assert!(!seen.started.as_ref().unwrap().context_new);
    let bash = common::code("bash", "my-bash", "echo \"${PWD##*/} $GREETING\"");
    assert_eq!(run(&mut client, "b", bash).await.out(), "here good 'morning'\n\n");
}

#[tokio::test]
async fn a_context_that_was_asked_for_stays_until_it_is_deleted() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let made = create(&mut client, "kept", "python").await.unwrap();
    assert_eq!(made.cwd, agent.workspace().display().to_string());
    run(&mut client, "a", python_in("kept", "x = 1")).await;
    run(&mut client, "b", python_in("made", "x = 1")).await;
    assert_eq!(names(&mut client).await, ["kept", "made"]);
    for (id, context) in [("c", "kept"), ("d", "made")] {
        let ended = run(&mut client, id, python_in(context, "exit()")).await;
        assert!(ended.outcome().context_lost);
    }
    common::eventually(async || names(&mut client.clone()).await == ["kept"]).await;
    let anew = run(&mut client, "e", python_in("kept", "'x' in globals()")).await;
    assert_eq!((anew.result(), anew.started.as_ref().unwrap().context_new), (Some("False"), true));
    let told = list(&mut client).await;
    assert_eq!(
        (told[0].executions, told[0].running.clone(), told[0].queued),
        (3, String::new(), 0)
    );
    assert!(told[0].last_used_unix_ms >= told[0].created_unix_ms);
    assert!(delete(&mut client, "kept").await);
    assert!(!delete(&mut client, "kept").await);
    assert!(names(&mut client).await.is_empty());
    // One that a run has made is kept as well when somebody asks for it.
    run(&mut client, "f", python_in("python", "x = 2")).await;
    create(&mut client, "", "python").await.unwrap();
    let seen = run(&mut client, "g", python_in("python", "x")).await;
    assert_eq!(seen.result(), Some("2"));
    run(&mut client, "h", python_in("python", "exit()")).await;
    assert_eq!(names(&mut client).await, ["python"]);
}

#[tokio::test]
async fn a_context_that_does_not_come_up_is_none() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let request = CreateContextRequest {
        name: "a".to_owned(),
        language: "python".to_owned(),
        cwd: "nowhere".to_owned(),
        env: BTreeMap::new(),
    };
    let error = client.create_context(request.clone()).await.unwrap_err();
    assert_eq!(common::ours(&error).code, Code::FileNotFound);
    assert!(names(&mut client).await.is_empty());
    let env = BTreeMap::from([("CODESANDBOX_X".to_owned(), String::new())]);
    let ours = CreateContextRequest { cwd: String::new(), env, ..request.clone() };
    let error = client.create_context(ours).await.unwrap_err();
    assert_eq!(common::ours(&error).code, Code::InvalidArgument);
    let unknown = CreateContextRequest { language: "cobol".to_owned(), ..request };
    let error = client.create_context(unknown).await.unwrap_err();
    assert_eq!(common::ours(&error).code, Code::InvalidArgument);
}

#[tokio::test]
async fn deleting_a_context_ends_all_that_is_its_own() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let source = "import subprocess; child = subprocess.Popen(['sleep', '60'], start_new_session=True)\nprint(child.pid)\nimport time; time.sleep(60)";
    let mut running = start(&mut client, "a", python_in("a", source), 0).await.unwrap();
    let queued = {
        let mut client = client.clone();
        tokio::spawn(async move { run(&mut client, "b", python_in("a", "1")).await })
    };
    known(&mut client, "b").await;
    let told = loop {
        let event = common::next(&mut running).await;
        if let Some(wire::v1::run_event::Event::Output(output)) = event.event {
            break String::from_utf8(output.data.to_vec()).unwrap();
        }
    };
    let info = list(&mut client).await;
    assert_eq!((&info[0].running[..], info[0].queued), ("a", 1));
    assert!(lives(told.trim()));
    assert!(delete(&mut client, "a").await);
    assert!(!lives(told.trim()));
    let cancelled = How::Cancelled(Empty {});
    assert_eq!(see(running).await.how(), cancelled);
    assert_eq!(queued.await.unwrap().how(), cancelled);
    until_no_zombie(&agent);
    // The name is free again.
    let anew = run(&mut client, "c", python_in("a", "1")).await;
    assert!(anew.started.as_ref().unwrap().context_new);
}

#[tokio::test]
async fn an_interrupt_ends_the_run_and_not_what_waits() {
    let agent = Agent::start();
    let mut client = agent.client().await;
    let source = "x = 1\nprint('at it')\nimport time; time.sleep(60)";
    let mut running = start(&mut client, "a", python_in("a", source), 0).await.unwrap();
    until(&mut running, "at it").await;
    let next = {
        let mut client = client.clone();
        tokio::spawn(async move { run(&mut client, "b", python_in("a", "x")).await })
    };
    known(&mut client, "b").await;
    assert_eq!(interrupt(&mut client, "a").await.unwrap(), "a");
    assert_eq!(see(running).await.how(), How::Cancelled(Empty {}));
    assert_eq!(next.await.unwrap().result(), Some("1"));
    assert_eq!(interrupt(&mut client, "a").await.unwrap(), "");
    let error = interrupt(&mut client, "b").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "CONTEXT_NOT_FOUND: context b does not exist; list those that do, or make it"
    );
}
