//! What a run has shown, as a model reads it: each value in the form that reads best, bounded.

use wire::v1::{Display, Form};

use crate::excerpt::Excerpt;

/// The largest picture that is kept, in bytes: what an honest agent sends.
const MAX_IMAGE: usize = 2 << 20;
/// How many pictures an answer holds.
const MAX_IMAGES: usize = 10;
/// How many values can be replaced later: each is kept by itself, and the agent may lie.
const MAX_IDS: usize = 32;
/// The longest id of such a value, in bytes.
const MAX_ID: usize = 200;
/// What clients show as pictures, the best of one value's first.
const PICTURES: [&str; 4] = ["image/png", "image/jpeg", "image/webp", "image/gif"];
/// What reads well as text, best first.
const TEXTS: [&str; 4] = ["text/markdown", "text/plain", "text/latex", "application/json"];

/// What a run has shown so far.
pub(crate) struct Displays {
    results: Excerpt,
    others: Vec<Shown>,
    /// Pictures that are too large or too many, and that nothing can replace.
    omitted: usize,
}

/// A value in its place, or texts one after the other that nothing can replace.
struct Shown {
    id: String,
    content: Content,
}

enum Content {
    Nothing,
    Text(Excerpt),
    Picture(Picture),
    /// A picture that is too large, or one too many.
    Omitted,
}

/// A picture as it was shown.
pub(crate) struct Picture {
    /// The number of its event.
    pub(crate) number: u64,
    pub(crate) form: Form,
}

impl Displays {
    /// Nothing yet; of the results and of the rest, at most `max` bytes of text will be told.
    pub(crate) fn new(max: usize) -> Self {
        Self { results: Excerpt::new(max), others: Vec::new(), omitted: 0 }
    }

    /// Takes in what the event of this number shows.
    pub(crate) fn push(&mut self, number: u64, display: Display) {
        let Display { result, forms, id, update } = display;
        if update && id.is_empty() {
            self.others.clear();
            self.omitted = 0;
            return;
        }
        let known = self.others.iter().rposition(|shown| !id.is_empty() && shown.id == id);
        if let Some(place) = known.filter(|_| update) {
            // First: a picture must not count beside the one whose place it takes.
            self.others[place].content = Content::Nothing;
            self.others[place].content = self.content(number, forms);
            return;
        }
        let ids = self.others.iter().filter(|shown| !shown.id.is_empty()).count();
        let id = if id.len() <= MAX_ID && ids < MAX_IDS { id } else { String::new() };
        match self.content(number, forms) {
            Content::Text(text) if result => append(&mut self.results, &text),
            content => self.add(Shown { id, content }),
        }
    }

    fn add(&mut self, new: Shown) {
        if new.id.is_empty() {
            match (self.others.last_mut(), &new.content) {
                (_, Content::Nothing) => return,
                (_, Content::Omitted) => return self.omitted += 1,
                (Some(Shown { id, content: Content::Text(last) }), Content::Text(text))
                    if id.is_empty() =>
                {
                    return append(last, text);
                }
                _ => {}
            }
        }
        self.others.push(new);
    }

    /// The form in which a value is told.
    fn content(&self, number: u64, mut forms: Vec<Form>) -> Content {
        if let Some(picture) = best(&PICTURES, &forms) {
            let form = forms.swap_remove(picture);
            if form.data.len() <= MAX_IMAGE && self.pictures().count() < MAX_IMAGES {
                return Content::Picture(Picture { number, form });
            }
            return Content::Omitted;
        }
        let mut text = Excerpt::new(self.results.max());
        match best(&TEXTS, &forms) {
            Some(best) => text.push(&forms[best].data),
            None if forms.is_empty() => return Content::Nothing,
            None => {
                let forms: Vec<_> = forms
                    .iter()
                    .map(|form| format!("{}, {} bytes", form.mime, form.data.len()))
                    .collect();
                text.push(format!("[{}, not shown]", forms.join("; ")).as_bytes());
            }
        }
        Content::Text(text)
    }

    /// The pictures.
    pub(crate) fn pictures(&self) -> impl Iterator<Item = &Picture> {
        self.others.iter().filter_map(|shown| match &shown.content {
            Content::Picture(picture) => Some(picture),
            _ => None,
        })
    }

    /// The values of last expressions.
    pub(crate) fn results(&self, log_complete: bool) -> String {
        self.results.text(log_complete)
    }

    /// All else that was shown as text.
    pub(crate) fn others(&self, log_complete: bool) -> String {
        let mut all = Excerpt::new(self.results.max());
        for shown in &self.others {
            if let Content::Text(text) = &shown.content {
                append(&mut all, text);
            }
        }
        all.text(log_complete)
    }

    /// What is said of pictures that are not there.
    pub(crate) fn note(&self) -> Option<String> {
        let replaceable =
            self.others.iter().filter(|shown| matches!(shown.content, Content::Omitted));
        let omitted = self.omitted + replaceable.count();
        (omitted > 0)
            .then(|| format!("{omitted} pictures omitted: at most {MAX_IMAGES} of 2 MiB each"))
    }
}

/// The form in which a value is shown to who asks for it alone: its picture, or else its text, or whatever it has.
pub(crate) fn original(mut forms: Vec<Form>) -> Option<Form> {
    let best = best(&PICTURES, &forms).or_else(|| best(&TEXTS, &forms)).unwrap_or(0);
    (best < forms.len()).then(|| forms.swap_remove(best))
}

fn best(mimes: &[&str], forms: &[Form]) -> Option<usize> {
    mimes.iter().find_map(|mime| forms.iter().position(|form| form.mime == *mime))
}

/// Adds a text on a line of its own.
fn append(texts: &mut Excerpt, text: &Excerpt) {
    if texts.total > 0 {
        texts.push(b"\n");
    }
    texts.append(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 200;

    fn form(mime: &str, data: &str) -> Form {
        Form { mime: mime.to_owned(), data: data.as_bytes().to_vec().into() }
    }

    fn shown(forms: &[(&str, &str)]) -> Display {
        let forms = forms.iter().map(|(mime, data)| form(mime, data)).collect();
        Display { forms, ..Display::default() }
    }

    fn text(text: &str) -> Display {
        shown(&[("text/plain", text)])
    }

    fn under(id: &str, display: Display) -> Display {
        Display { id: id.to_owned(), ..display }
    }

    fn update(id: &str, display: Display) -> Display {
        Display { update: true, ..under(id, display) }
    }

    fn displays(all: impl IntoIterator<Item = Display>) -> Displays {
        let mut displays = Displays::new(MAX);
        (0..).zip(all).for_each(|(number, display)| displays.push(number, display));
        displays
    }

    /// The types and data of the pictures.
    fn images(displays: &Displays) -> Vec<(String, Vec<u8>)> {
        let image = |picture: &Picture| (picture.form.mime.clone(), picture.form.data.to_vec());
        displays.pictures().map(image).collect()
    }

    /// tests.md B11.
    #[test]
    fn each_value_is_told_in_the_form_that_reads_best() {
        let displays = displays([
            shown(&[("text/plain", "<Markdown>"), ("text/markdown", "# Title")]),
            shown(&[("text/plain", "   a\n0  1"), ("text/html", "<table>"), ("text/latex", "$t$")]),
            shown(&[("text/latex", "$x$"), ("application/json", "1")]),
            shown(&[("text/html", "<b>"), ("application/json", r#"{"a": 1}"#)]),
            shown(&[("text/html", "<b>")]),
            shown(&[("image/svg+xml", "<svg/>"), ("application/pdf", "%PDF")]),
        ]);
        assert_eq!(
            displays.others(true),
            "# Title\n   a\n0  1\n$x$\n{\"a\": 1}\n[text/html, 3 bytes, not shown]\n\
             [image/svg+xml, 6 bytes; application/pdf, 4 bytes, not shown]"
        );
        assert_eq!((displays.results(true), displays.note()), (String::new(), None));
    }

    /// tests.md C3.
    #[test]
    fn a_picture_stands_for_its_value() {
        let figure =
            |picture| shown(&[("text/plain", "<Figure>"), ("image/png", picture), ("x/y", "")]);
        let photo = shown(&[("image/jpeg", "b"), ("image/png", "c"), ("text/markdown", "d")]);
        let displays = displays([
            figure("a"),
            Display { result: true, ..photo },
            shown(&[("image/tiff", "no client shows it")]),
            shown(&[("image/jpeg", "e")]),
        ]);
        let expected = [("image/png", "a"), ("image/png", "c"), ("image/jpeg", "e")];
        assert_eq!(
            images(&displays),
            expected.map(|(mime, data)| (mime.to_owned(), data.as_bytes().to_vec()))
        );
        assert_eq!(displays.others(true), "[image/tiff, 18 bytes, not shown]");
        assert_eq!((displays.results(true), displays.note()), (String::new(), None));
    }

    /// tests.md C3.
    #[test]
    fn pictures_are_bounded_and_those_omitted_are_counted() {
        let picture = |length: usize| shown(&[("image/png", &"x".repeat(length))]);
        let few = [picture(MAX_IMAGE + 1), picture(MAX_IMAGE), under("a", picture(MAX_IMAGE + 1))];
        let many = (0..MAX_IMAGES).map(|_| picture(1));
        let displays = displays(few.into_iter().chain(many));
        let lengths: Vec<_> = images(&displays).iter().map(|(_, data)| data.len()).collect();
        assert_eq!(lengths, [&[MAX_IMAGE][..], &[1; MAX_IMAGES - 1]].concat());
        let note = "3 pictures omitted: at most 10 of 2 MiB each";
        assert_eq!(displays.note().as_deref(), Some(note));
    }

    /// tests.md B11.
    #[test]
    fn an_update_takes_the_place_of_what_was_shown_under_its_id() {
        let picture = |data| shown(&[("image/png", data)]);
        let full = (0..MAX_IMAGES - 1).map(|_| picture("x"));
        let all = [
            text("first"),
            under("a", text("0 %")),
            under("b", picture("old")),
            text("last"),
            update("a", text("100 %")),
            update("never shown here", text("new")),
        ];
        let mut displays = displays(all.into_iter().chain(full));
        assert_eq!(displays.others(true), "first\n100 %\nlast\nnew");
        displays.push(90, update("b", picture("new")));
        assert_eq!(images(&displays)[0].1, b"new");
        assert_eq!(
            displays.pictures().map(|picture| picture.number).collect::<Vec<_>>(),
            [&[90][..], &[6, 7, 8, 9, 10, 11, 12, 13, 14]].concat()
        );
        assert_eq!((images(&displays).len(), displays.note()), (MAX_IMAGES, None));
        displays.push(91, update("b", shown(&[])));
        displays.push(92, update("a", picture("at last")));
        assert_eq!(images(&displays)[0].1, b"at last");
        assert_eq!(displays.others(true), "first\nlast\nnew");
    }

    #[test]
    fn an_update_of_no_id_takes_back_all_but_the_results() {
        let result = Display { result: true, ..text("result") };
        let large = shown(&[("image/png", &"x".repeat(MAX_IMAGE + 1))]);
        let clear = Display { update: true, ..Display::default() };
        let displays = displays([text("a"), result, large, clear, text("b")]);
        assert_eq!((displays.results(true), displays.others(true)), ("result".into(), "b".into()));
        assert_eq!(displays.note(), None);
    }

    /// exec.md §7, point 8: the agent may lie, and a flood must not fill our memory.
    #[test]
    fn a_flood_is_bounded_and_what_is_omitted_is_said_to_the_byte() {
        let long = "x".repeat(1000);
        let mut displays =
            displays((0..1000).map(|number| under(&number.to_string(), text(&long))));
        (0..1000).for_each(|number| displays.push(number, under(&long, text(&long))));
        assert_eq!(displays.others.len(), MAX_IDS + 1);
        let told = displays.others(true);
        let omitted = 2000 * 1001 - 1 - MAX;
        let said = format!("{}\n[... {omitted} bytes omitted; ", "x".repeat(MAX / 4));
        assert!(told.starts_with(&said) && told.len() < 2 * MAX + 100, "{told}");
    }

    #[test]
    fn an_id_too_many_or_too_long_names_nothing_and_its_update_is_shown_as_new() {
        let long = "x".repeat(MAX_ID + 1);
        let shown = displays([under(&long, text("a")), update(&long, text("b"))]);
        assert_eq!(shown.others(true), "a\nb");
        let many = (0..=MAX_IDS).map(|number| under(&number.to_string(), text("")));
        let last = MAX_IDS.to_string();
        let shown = displays(many.chain([under(&last, text("a")), update(&last, text("b"))]));
        assert!(shown.others(true).ends_with("a\nb"));
    }
}
