//! Whether our ServiceAccounts have the rights they need and no others, judged from what they asked the API server
//! since the release was installed. `make e2e` runs it last, when the other tests have done everything.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context, ensure};
use e2e::{RELEASE_NAMESPACE, kubectl};
use serde_json::Value;

/// Rights of which the log cannot tell that they are used, and why they are needed.
const UNSEEN: [(&str, &str); 5] = [
    (
        "update codesandbox.dev/codesandboxes/finalizers",
        "asked by the admission plugin OwnerReferencesPermissionEnforcement, which is off here",
    ),
    (
        "mark codesandbox.dev/sandboxpods",
        "asked by the admission policy for pods, without a request",
    ),
    (
        "own codesandbox.dev/codesandboxes",
        "asked by the admission policy for owners, without a request",
    ),
    ("create /pods/exec", "asked by the API server within the GET that opens a websocket"),
    ("* coordination.k8s.io/leases", "the audit policy of e2e/cluster leaves Leases out"),
];

/// The part of a request that rights are about.
struct Request {
    account: String,
    /// As in `patch codesandbox.dev/codesandboxes/status`.
    what: String,
    /// Whether it was refused for want of a right. Admission refuses too, after RBAC has allowed.
    forbidden: bool,
    /// The verb and the path, by which the same request is known when it comes again.
    asked: String,
}

/// A request of one of our ServiceAccounts since a time; of any other line nothing.
fn request(line: &str, since: &str) -> Option<Request> {
    let event: Value = serde_json::from_str(line).ok()?;
    let user = event["user"]["username"].as_str()?;
    let account = user.strip_prefix("system:serviceaccount:")?;
    let account = account.strip_prefix(RELEASE_NAMESPACE)?.strip_prefix(":codesandbox-")?;
    // Both are RFC 3339 in UTC; one has fractions of a second.
    if event["requestReceivedTimestamp"].as_str()?.get(..19)? < since.get(..19)? {
        return None;
    }
    let object = &event["objectRef"];
    let text = |key: &str| object[key].as_str().unwrap_or_default();
    let mut what = format!("{}/{}", text("apiGroup"), text("resource"));
    if object["subresource"].is_string() {
        what = format!("{what}/{}", text("subresource"));
    }
    // An apply of what is not there yet is also asked the right to create.
    let created = event["verb"] == "patch" && event["responseStatus"]["code"] == 201;
    let verb = if created { "create" } else { event["verb"].as_str()? };
    let path = event["requestURI"].as_str().unwrap_or_default().split('?').next()?;
    Some(Request {
        account: account.into(),
        what: format!("{verb} {what}"),
        forbidden: event["annotations"]["authorization.k8s.io/decision"] == "forbid",
        asked: format!("{} {path}", event["verb"].as_str()?),
    })
}

/// Everything our accounts asked since the newest revision of the release, which is when the rights were given.
async fn requests() -> anyhow::Result<Vec<Request>> {
    let log = std::env::var("CLUSTER_AUDIT_LOG")
        .context("CLUSTER_AUDIT_LOG has to name the API server's audit log: see e2e/cluster")?;
    let revisions = ["get", "secrets", "-n", RELEASE_NAMESPACE, "-l", "owner=helm,status=deployed"];
    let newest = ["--sort-by=.metadata.creationTimestamp", "-o"];
    let times = "jsonpath={range .items[*]}{.metadata.creationTimestamp}{\"\\n\"}{end}";
    let revisions = kubectl(&[&revisions[..], &newest, &[times]].concat()).await?;
    let since = revisions.lines().last().context("there is a release")?;
    let folder = Path::new(&log).parent().context("a folder")?;
    let mut requests = vec![];
    for file in fs::read_dir(folder)? {
        let path = file?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        // The log itself and what it was rotated to.
        if name.starts_with("audit") && path.extension().is_some_and(|end| end == "log") {
            let text = fs::read_to_string(&path)?;
            requests.extend(text.lines().filter_map(|line| request(line, since)));
        }
    }
    ensure!(!requests.is_empty(), "no request of ours in {log} since {since}");
    Ok(requests)
}

/// What RBAC grants an account, one right a line, as requests are spelled.
async fn granted(account: &str) -> anyhow::Result<BTreeSet<String>> {
    let bindings =
        kubectl(&["get", "rolebindings,clusterrolebindings", "-A", "-o", "json"]).await?;
    let bindings: Value = serde_json::from_str(&bindings)?;
    let ours = format!("codesandbox-{account}");
    let mut rights = BTreeSet::new();
    for binding in bindings["items"].as_array().context("a list")? {
        let mut subjects = binding["subjects"].as_array().into_iter().flatten();
        if !subjects.any(|subject| subject["name"] == *ours && subject["kind"] == "ServiceAccount")
        {
            continue;
        }
        ensure!(binding["kind"] == "RoleBinding", "{account} has a cluster-wide right: {binding}");
        let (namespace, role) = (&binding["metadata"]["namespace"], &binding["roleRef"]["name"]);
        let (namespace, role) = (namespace.as_str().context("one")?, role.as_str().context("one")?);
        let role = kubectl(&["get", "role", role, "-n", namespace, "-o", "json"]).await?;
        let role: Value = serde_json::from_str(&role)?;
        let list = |rule: &Value, key: &str| -> Vec<String> {
            let all = rule[key].as_array().into_iter().flatten();
            all.filter_map(|one| one.as_str().map(String::from)).collect()
        };
        for rule in role["rules"].as_array().context("rules")? {
            for group in list(rule, "apiGroups") {
                for resource in list(rule, "resources") {
                    let right = |verb| format!("{verb} {group}/{resource}");
                    rights.extend(list(rule, "verbs").into_iter().map(right));
                }
            }
        }
    }
    ensure!(!rights.is_empty(), "{account} has no right at all");
    Ok(rights)
}

fn unseen(right: &str) -> bool {
    UNSEEN.iter().any(|(named, _)| match named.strip_prefix('*') {
        Some(resource) => right.ends_with(resource),
        None => right == *named,
    })
}

/// What was refused and never granted. An API server that has just started knows no roles yet and refuses, for some
/// milliseconds, what it granted before and will grant again: the other tests kill it.
fn lacking(requests: &[Request]) -> BTreeSet<String> {
    let (refused, granted): (Vec<_>, Vec<_>) =
        requests.iter().partition(|request| request.forbidden);
    let granted: BTreeSet<_> =
        granted.iter().map(|request| (&request.account, &request.asked)).collect();
    let never = refused.into_iter().filter(|one| !granted.contains(&(&one.account, &one.asked)));
    never.map(|request| format!("{}: {}", request.account, request.asked)).collect()
}

#[tokio::test]
#[ignore = "judges what the other tests did, so it is run after them"]
async fn no_request_of_ours_lacks_a_right() -> anyhow::Result<()> {
    assert_eq!(lacking(&requests().await?), BTreeSet::new());
    Ok(())
}

#[test]
fn a_right_is_lacking_that_was_never_granted_to_whoever_asked() {
    let request = |account: &str, asked: &str, forbidden| Request {
        account: account.into(),
        what: String::new(),
        forbidden,
        asked: asked.into(),
    };
    let requests = [
        request("operator", "watch /pods", false),
        request("operator", "watch /pods", true),
        request("operator", "delete /pods/a", true),
        request("mcp-frontend", "watch /pods", true),
    ];
    let never = ["mcp-frontend: watch /pods", "operator: delete /pods/a"];
    assert_eq!(lacking(&requests), never.map(String::from).into());
}

#[tokio::test]
#[ignore = "judges what the other tests did, so it is run after them"]
async fn every_right_is_used_or_has_its_reason() -> anyhow::Result<()> {
    let requests = requests().await?;
    for account in ["operator", "mcp-frontend"] {
        let of = requests.iter().filter(|request| request.account == account);
        let used: BTreeSet<_> = of.map(|request| request.what.clone()).collect();
        let idle: Vec<_> = granted(account)
            .await?
            .into_iter()
            .filter(|right| !used.contains(right) && !unseen(right))
            .collect();
        assert_eq!(idle, Vec::<String>::new(), "rights of {account} that nothing used: {used:#?}");
    }
    Ok(())
}

#[test]
fn a_line_of_the_log_is_read_as_the_right_it_took() {
    let line = |verb: &str, resource: &str, code: u16, decision: &str| {
        serde_json::json!({
            "user": {"username": "system:serviceaccount:codesandbox:codesandbox-operator"},
            "verb": verb, "requestURI": "/x", "requestReceivedTimestamp": "2026-01-01T00:00:05.5Z",
            "objectRef": {"apiGroup": "networking.k8s.io", "resource": resource},
            "responseStatus": {"code": code}, "annotations": {"authorization.k8s.io/decision": decision},
        })
        .to_string()
    };
    let read = |line: &str, since: &str| {
        request(line, since).map(|request| (request.what, request.forbidden))
    };
    let since = "2026-01-01T00:00:05Z";
    let policies = "networkpolicies";
    for (line, expected) in [
        (line("patch", policies, 200, "allow"), ("patch networking.k8s.io/networkpolicies", false)),
        (
            line("patch", policies, 201, "allow"),
            ("create networking.k8s.io/networkpolicies", false),
        ),
        (line("list", policies, 403, "forbid"), ("list networking.k8s.io/networkpolicies", true)),
        // Refused by admission.
        (line("list", policies, 403, "allow"), ("list networking.k8s.io/networkpolicies", false)),
    ] {
        assert_eq!(read(&line, since), Some((expected.0.into(), expected.1)));
    }
    assert_eq!(read(&line("list", policies, 200, "allow"), "2026-01-01T00:00:06Z"), None);
    assert_eq!(
        read(&line("list", policies, 200, "allow").replace("codesandbox:", "else:"), since),
        None
    );
}
