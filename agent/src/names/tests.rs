use super::*;

#[test]
fn a_domain_is_told_and_logged_once_and_every_query_counted() {
    let refused = Refused::default();
    assert_eq!(refused.told(), RefusedNamesReply::default());
    let lines: Vec<_> =
        ["evil.test", "registry", "evil.test"].map(|one| refused.count(one.into())).into();
    let line = |domain| {
        Some(format!(
            "refused to resolve a name in {domain}: under spec.network.egress Deny none is. Use addresses that spec.network.allow opens, or egress Internet (docs/network.md)"
        ))
    };
    assert_eq!(lines, [line("evil.test"), line("registry"), None]);
    let domains = vec!["evil.test".into(), "registry".into()];
    assert_eq!(refused.told(), RefusedNamesReply { count: 3, domains, more: false });
}

#[test]
fn beyond_sixteen_domains_names_are_counted_only_which_is_said_once() {
    let refused = Refused::default();
    let all = (0..1000).map(|number| format!("d{number}.test"));
    let lines: Vec<_> = all.clone().filter_map(|domain| refused.count(domain)).collect();
    assert_eq!(lines.len(), MAX_REFUSED_DOMAINS + 1);
    assert_eq!(
        lines[MAX_REFUSED_DOMAINS],
        "refused names in more than 16 domains: of others none is said, they are counted"
    );
    let domains = all.take(MAX_REFUSED_DOMAINS).collect();
    assert_eq!(refused.told(), RefusedNamesReply { count: 1000, domains, more: true });
}
