//! A point of a topic as a person says it: a time, so long ago, an offset, or an end of what is kept.

use std::str::FromStr;

use crate::history::{Range, TopicHistory};
use crate::telemetry::now_ms;

/// A point of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The first record whose timestamp is this or later, milliseconds since the epoch.
    Time(i64),
    /// This offset in each partition.
    Offset(i64),
    /// The oldest record that is kept.
    Start,
    /// One past the newest record.
    End,
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}`: expected a time in RFC 3339, as 2026-03-01T06:00:00Z, -2h for so long ago, @1500 for an offset, start or end"
            )
        };
        if let Some(offset) = text.strip_prefix('@') {
            return offset.parse().ok().filter(|offset| *offset >= 0).map(Self::Offset).ok_or_else(wrong);
        }
        if let Some(ago) = text.strip_prefix('-') {
            let ago = humantime::parse_duration(ago).map_err(|_| wrong())?;
            let ago_ms = i64::try_from(ago.as_millis()).map_err(|_| wrong())?;
            return Ok(Self::Time(now_ms().saturating_sub(ago_ms)));
        }
        match text {
            "start" => Ok(Self::Start),
            "end" | "now" => Ok(Self::End),
            time => time.parse::<jiff::Timestamp>().map(|time| Self::Time(time.as_millisecond())).map_err(|_| wrong()),
        }
    }
}

impl Moment {
    /// The offset that it means in each of `extents`, in their order.
    ///
    /// Errors: what is wrong, in words for the user.
    pub fn offsets(self, history: &mut TopicHistory, extents: &[Range]) -> Result<Vec<i64>, String> {
        let Self::Time(time_ms) = self else {
            return Ok(extents.iter().map(|extent| self.within(*extent)).collect());
        };
        let since = history.since(time_ms, extents)?;
        let found = |extent: &Range| since.iter().find(|range| range.partition == extent.partition);
        // Nothing is as late.
        Ok(extents.iter().map(|extent| found(extent).map_or(extent.end, |range| range.start)).collect())
    }

    fn within(self, extent: Range) -> i64 {
        match self {
            Self::Offset(offset) => offset.clamp(extent.start, extent.end),
            Self::Start => extent.start,
            Self::Time(_) | Self::End => extent.end,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_time_an_age_an_offset_or_an_end() {
        let parse = |text: &str| text.parse::<Moment>();
        assert_eq!(parse("2026-01-01T00:00:00Z"), Ok(Moment::Time(1_767_225_600_000)));
        assert_eq!(
            (parse("@7"), parse("start"), parse("now")),
            (Ok(Moment::Offset(7)), Ok(Moment::Start), Ok(Moment::End))
        );
        let Ok(Moment::Time(time_ms)) = parse("-2h") else { panic!("an age is a time") };
        assert!((now_ms() - 7_200_000 - time_ms).abs() < 60_000);
        for wrong in ["@-1", "@x", "-2", "yesterday", ""] {
            assert!(parse(wrong).is_err_and(|said| said.contains("RFC 3339")), "{wrong}");
        }
    }

    #[test]
    fn an_offset_stays_within_what_is_kept() {
        let extent = Range { partition: 0.into(), start: 10, end: 20 };
        let at = |offset| Moment::Offset(offset).within(extent);
        assert_eq!([at(3), at(15), at(40)], [10, 15, 20]);
        assert_eq!([Moment::Start.within(extent), Moment::End.within(extent)], [10, 20]);
    }
}
