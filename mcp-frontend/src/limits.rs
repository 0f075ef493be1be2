//! What a caller's sandboxes may take together, as flags.

use api::quantity;
use service::Limits;

/// The flags.
#[derive(clap::Args)]
pub(crate) struct Flags {
    /// How many sandboxes a caller may have at once. 0: as many as the namespace takes.
    #[arg(long = "max-sandboxes", env = "MAX_SANDBOXES", default_value_t = 100)]
    sandboxes: u32,
    /// How many CPUs the sandboxes of a caller may use together, such as 8 or 500m. Default: what the namespace gives.
    #[arg(long = "max-cpu", env = "MAX_CPU", value_parser = amount)]
    cpu: Option<f64>,
    /// How much memory they may use together, such as 16Gi. Default: what the namespace gives.
    #[arg(long = "max-memory", env = "MAX_MEMORY", value_parser = amount)]
    memory: Option<f64>,
    /// How many GPUs they may have together, of whatever kind; 0 for none. Default: what the namespace gives.
    #[arg(long = "max-gpus", env = "MAX_GPUS")]
    gpus: Option<u32>,
}

impl Flags {
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            sandboxes: Some(self.sandboxes).filter(|most| *most > 0),
            cpu: self.cpu,
            memory: self.memory,
            gpus: self.gpus,
        }
    }
}

/// An amount in thousandths. With none of it no sandbox could be made, and who writes 0 may mean that there is no limit.
fn amount(text: &str) -> Result<f64, String> {
    let amount = quantity::read(text).filter(|amount| *amount > 0.0);
    amount.ok_or_else(|| {
        "not an amount above 0, such as 500m, 8 or 16Gi; without the flag there is no limit".into()
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Alone {
        #[command(flatten)]
        flags: Flags,
    }

    fn limits(flags: &[&str]) -> Result<Limits, clap::Error> {
        Alone::try_parse_from(["a"].iter().chain(flags)).map(|alone| alone.flags.limits())
    }

    #[test]
    fn nothing_is_limited_but_the_number_until_it_is_said() {
        let number = |sandboxes| Limits { sandboxes, ..Limits::default() };
        assert_eq!(limits(&[]).unwrap(), number(Some(100)));
        assert_eq!(limits(&["--max-sandboxes=0"]).unwrap(), number(None));
        let all = ["--max-sandboxes=7", "--max-cpu=2.5", "--max-memory=1Mi", "--max-gpus=0"];
        let expected = Limits {
            sandboxes: Some(7),
            cpu: Some(2500.0),
            memory: Some(1_048_576e3),
            gpus: Some(0),
        };
        assert_eq!(limits(&all).unwrap(), expected);
    }

    #[test]
    fn a_limit_is_an_amount_above_nothing() {
        for flag in ["--max-cpu=0", "--max-cpu=-1", "--max-memory=much", "--max-memory=0Gi"] {
            let refusal = limits(&[flag]).unwrap_err().to_string();
            assert!(refusal.contains("not an amount above 0"), "{refusal}");
        }
        assert!(limits(&["--max-gpus=-1"]).is_err());
    }
}
