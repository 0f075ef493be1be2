//! What time it is for the API server: of its clock are the times at which objects were created.

use http::{HeaderMap, Request, header::DATE};
use jiff::{Timestamp, fmt::rfc2822::DateTimeParser};
use kube::client::Body;

use crate::call::{Caller, Error, Kind, Verb};

/// In whole seconds; nothing where it does not say.
pub(super) async fn ask(caller: &Caller) -> Result<Option<Timestamp>, Error> {
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = http::Uri::from_static("/version");
    let answering = caller.client.send(request);
    let answer = caller.request(Verb::Get, Kind::Version, "", answering).await?;
    Ok(said(answer.headers()))
}

fn said(headers: &HeaderMap) -> Option<Timestamp> {
    DateTimeParser::new().parse_timestamp(headers.get(DATE)?.as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_time_is_read_as_servers_write_it() {
        for (date, expected) in [
            (Some("Sun, 29 Nov 2026 00:33:07 GMT"), "2026-11-29T00:33:07Z".parse().ok()),
            (Some("yesterday"), None),
            (None, None),
        ] {
            let headers = date.map(|date| (DATE, date.parse().unwrap())).into_iter().collect();
            assert_eq!(said(&headers), expected, "{date:?}");
        }
    }
}
