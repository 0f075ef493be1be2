//! Searches in a sandbox's files.

use wire::{
    limits::{SEARCH_BYTES, SEARCH_CONTEXT, SEARCH_LINE_COST, SEARCH_MATCHES},
    v1::{SearchEnd, SearchEvent, SearchLine, SearchRequest, search_event::Event},
};

use super::TOO_LONG;
use crate::{Error, Lane, Session, session::Call};

/// What a search has found.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The lines that match and those around them, in the order of paths and numbers.
    pub lines: Vec<SearchLine>,
    /// How much was searched, and what was not.
    pub end: SearchEnd,
}

impl Session {
    /// Searches files for a pattern.
    pub async fn search(&self, request: SearchRequest) -> Result<Found, Error> {
        let or = |asked: u32, default: u32| if asked == 0 { default } else { asked } as usize;
        let matches = or(request.max_matches, SEARCH_MATCHES);
        let context = request.context.min(SEARCH_CONTEXT) as usize;
        let most_lines = matches.saturating_mul(1 + 2 * context);
        let most_bytes = or(request.max_bytes, SEARCH_BYTES);
        self.all("Search", 0, async {
            let mut stream = self
                .call(Call::new("Search", Lane::Control), |mut agent| {
                    let request = request.clone();
                    async move { agent.search(request).await }
                })
                .await?;
            let (mut lines, mut bytes) = (Vec::new(), 0);
            while let Some(SearchEvent { event }) = self.message("Search", &mut stream).await? {
                match event {
                    Some(Event::Line(line)) => {
                        bytes += line.path.len() + line.text.len() + SEARCH_LINE_COST;
                        if lines.len() == most_lines || bytes > most_bytes {
                            let what = format!("what was found in {}", request.path);
                            return Err(Error::Corrupted { what, why: TOO_LONG });
                        }
                        lines.push(line);
                    }
                    Some(Event::End(end)) => return Ok(Found { lines, end }),
                    None => {}
                }
            }
            let reason = format!("the search of {} ended before its end", request.path);
            Err(Error::Lost { pod: self.pod().into(), reason })
        })
        .await
    }
}
