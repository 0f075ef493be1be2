use super::*;

/// The beginning of a query as resolvers make them: of this id, one question, recursion wished for.
const USUAL: [u8; 12] = [0xab, 0xcd, 0x01, 0, 0, 1, 0, 0, 0, 0, 0, 0];
/// Type A, class IN.
const A: [u8; 4] = [0, 1, 0, 1];

/// A name's labels, as they are sent.
fn labels(labels: &[&[u8]]) -> Vec<u8> {
    let sent = labels.iter().flat_map(|label| {
        [u8::try_from(label.len()).unwrap()].into_iter().chain(label.iter().copied())
    });
    sent.chain([0]).collect()
}

/// A usual query for a name as it is sent.
fn query(name: &[u8]) -> Vec<u8> {
    [&USUAL[..], name, &A].concat()
}

/// A usual query that has another byte at this place.
fn with(place: usize, byte: u8) -> Vec<u8> {
    let mut query = query(&labels(&[b"a", b"b"]));
    query[place] = byte;
    query
}

fn domain_of(name: &[u8]) -> Option<String> {
    refuse(&query(name)).map(|refusal| refusal.domain)
}

#[test]
fn a_query_is_refused_with_its_own_header_and_question() {
    let name = labels(&[b"s3cret", b"evil", b"test"]);
    let answer = [0xab, 0xcd, 0x81, 0x05, 0, 1, 0, 0, 0, 0, 0, 0];
    let reply = [&answer[..], &name, &A].concat();
    assert_eq!(refuse(&query(&name)), Some(Refusal { reply, domain: "evil.test".into() }));
}

#[test]
fn of_the_querys_flags_an_answer_has_those_that_are_the_querys() {
    for (sent, answered) in [
        ([0x00, 0x00], [0x80, 0x05]),
        ([0x01, 0x00], [0x81, 0x05]),
        // Checking disabled; authentic data, which is the answer's to say; what is an answer's or nobody's.
        ([0x01, 0x10], [0x81, 0x15]),
        ([0x01, 0x20], [0x81, 0x05]),
        ([0x07, 0xef], [0x81, 0x05]),
    ] {
        let mut query = query(&labels(&[b"a"]));
        query[2..4].copy_from_slice(&sent);
        assert_eq!(refuse(&query).unwrap().reply[2..4], answered, "{sent:x?}");
    }
}

#[test]
fn the_domain_is_the_last_two_labels_as_hosts_are_called() {
    let longest = [b'x'; MAX_LABEL];
    let both = format!("{0}.{0}", "x".repeat(MAX_LABEL));
    for (name, domain) in [
        (labels(&[b"s3cret", b"evil", b"tld"]), "evil.tld"),
        (labels(&[b"a", b"b", b"s3cret", b"evil", b"tld"]), "evil.tld"),
        (labels(&[b"evil", b"tld"]), "evil.tld"),
        (labels(&[b"registry"]), "registry"),
        (labels(&[]), "."),
        (labels(&[b"x", b"EvIl", b"TLD"]), "evil.tld"),
        (labels(&[b"_a-1", b"xn--9"]), "_a-1.xn--9"),
        (labels(&[b"x", b"\xffe\x00v\xc3\xb6", b"t l.d\n"]), "?e?v??.t?l?d?"),
        (labels(&[b"\x1b[31m", b"<b>"]), "??31m.?b?"),
        (labels(&[&longest, &longest, &longest]), &both),
    ] {
        assert_eq!(domain_of(&name).as_deref(), Some(domain), "{}", name.escape_ascii());
    }
}

#[test]
fn a_name_has_255_bytes_at_most_and_a_label_63() {
    let label = |length| vec![b'x'; length];
    let name = |last| {
        let (long, last) = (label(MAX_LABEL), label(last));
        labels(&[&long, &long, &long, &last])
    };
    assert_eq!((name(61).len(), name(62).len()), (255, 256));
    assert!(domain_of(&name(61)).is_some());
    assert_eq!(domain_of(&name(62)), None);
    assert_eq!(domain_of(&labels(&[&label(64)])), None);
    // Of as many labels as can be.
    assert!(domain_of(&labels(&[&b"a"[..]; 127])).is_some());
    assert_eq!(domain_of(&labels(&[&b"a"[..]; 128])), None);
}

#[test]
fn what_is_no_query_with_one_question_gets_no_answer() {
    let usual = query(&labels(&[b"a", b"b"]));
    assert!(refuse(&usual).is_some());
    for length in 0..usual.len() {
        assert_eq!(refuse(&usual[..length]), None, "{length} bytes of it");
    }
    for (what, message) in [
        ("a response", with(2, 0x81)),
        ("an inverse query", with(2, 0x08)),
        ("a notification", with(2, 0x20)),
        ("an update", with(2, 0x28)),
        ("no question", with(5, 0)),
        ("two questions", with(5, 2)),
        ("many questions", with(4, 1)),
        ("a label with one bit too many", with(12, 0x41)),
        ("a pointer to itself", query(&[0xc0, 12])),
        ("a pointer into the header", query(&[0xc0, 0])),
        ("a pointer behind a label", query(&[1, b'a', 0xc0, 12])),
        ("a label that goes on behind the end", query(&[63, b'a'])),
        ("zeros", vec![0; MAX_QUERY]),
        ("ones", vec![0xff; MAX_QUERY]),
    ] {
        assert_eq!(refuse(&message), None, "{what}");
    }
}

/// As EDNS's record is, which says how long an answer may be.
#[test]
fn what_follows_the_question_is_neither_read_nor_sent_back() {
    let usual = query(&labels(&[b"a", b"evil", b"test"]));
    let opt = [0, 0, 41, 0x10, 0, 0, 0, 0, 0, 0, 0];
    let mut counted = usual.clone();
    counted[11] = 1;
    for (what, message) in [
        ("a record", [&counted[..], &opt].concat()),
        ("a part of one", [&counted[..], &opt[..5]].concat()),
        ("none, where one is said to be", counted),
        ("nonsense", [&usual[..], &[0xff; 100]].concat()),
    ] {
        assert_eq!(refuse(&message), refuse(&usual), "{what}");
    }
}
