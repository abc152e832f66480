//! The flags that say how messages are framed; the same for every subcommand.

use clap::Args;
use oneloop::{AnyFraming, ConfigError, Pair};

use crate::Failure;
use crate::presets::{self, Preset, SAME};
use crate::units;

/// Framings, by name or by SPEC.
#[derive(Args)]
pub(crate) struct FramingFlags {
    /// A server of the documents; `oneloop presets` shows them
    #[arg(long, value_name = "NAME", value_parser = presets::parser(), hide_possible_values = true)]
    pub(crate) preset: Option<&'static Preset>,

    /// How messages are framed [default: lines]
    #[arg(short, long, value_name = "SPEC")]
    framing: Option<String>,

    /// How replies are framed [default: same, as messages are]
    #[arg(long, value_name = "SPEC")]
    reply_framing: Option<String>,

    /// Largest message; max= in a SPEC wins [default: 1m, lines 64k]
    #[arg(long, value_name = "SIZE", value_parser = units::size, help_heading = "Limits")]
    max_message: Option<usize>,
}

impl FramingFlags {
    /// The server's pair: messages are decoded, replies are encoded.
    pub(crate) fn pair(&self) -> Result<Pair<AnyFraming, AnyFraming>, Failure> {
        self.pair_within(None)
    }

    /// The same; `max` is the largest message where neither a flag nor a SPEC says so, and
    /// the framing could carry larger ones.
    pub(crate) fn pair_within(
        &self,
        max: Option<usize>,
    ) -> Result<Pair<AnyFraming, AnyFraming>, Failure> {
        let decode = self.parse("--framing", self.messages(), max)?;
        let encode = match self.replies() {
            SAME => decode.clone(),
            spec => self.parse("--reply-framing", spec, max)?,
        };
        Ok(Pair { decode, encode })
    }

    /// SPEC of messages.
    pub(crate) fn messages(&self) -> &str {
        let preset = self.preset.map(|preset| preset.framing);
        self.framing.as_deref().or(preset).unwrap_or("lines")
    }

    /// SPEC of replies, or [`SAME`].
    pub(crate) fn replies(&self) -> &str {
        let preset = self.preset.map(|preset| preset.replies);
        self.reply_framing.as_deref().or(preset).unwrap_or(SAME)
    }

    fn parse(&self, flag: &str, spec: &str, max: Option<usize>) -> Result<AnyFraming, Failure> {
        if let (None, Some(_)) = (self.max_message, max)
            && let Ok(framing) = AnyFraming::from_spec(spec, max)
        {
            return Ok(framing);
        }
        AnyFraming::from_spec(spec, self.max_message).map_err(|error| {
            Failure::Usage(match error {
                ConfigError::Spec { .. } => format!("{flag}: {error}"),
                error => format!("{flag} {spec}, --max-message: {error}"),
            })
        })
    }
}
