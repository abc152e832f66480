//! Coarse time, small enough to store in every connection.

use std::time::Duration;

/// A moment in tenths of a second since the loop began.
///
/// Connections store ticks, not instants: four bytes instead of sixteen, and exact
/// enough for clocks that run for seconds. Wraps after 13 years, and
/// [`Tick::since`] stays right across the wrap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tick(u32);

impl Tick {
    /// The length of one tick.
    pub const LENGTH: Duration = Duration::from_millis(100);

    /// The tick that `now`, measured from the start of the loop, falls into.
    pub fn at(now: Duration) -> Self {
        // Truncation is the wrap described above.
        Self((now.as_millis() / Self::LENGTH.as_millis()) as u32)
    }

    /// Time from `earlier` to this tick, exact to one tick; zero if it is later.
    pub fn since(self, earlier: Tick) -> Duration {
        // Across the wrap, the shorter way round tells which of the two is later.
        let passed = self.0.wrapping_sub(earlier.0).cast_signed();
        Self::LENGTH * passed.max(0).cast_unsigned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_difference_survives_the_wrap() {
        let before = Tick(u32::MAX - 4);
        let after = Tick(5);
        assert_eq!(after.since(before), Duration::from_secs(1));
        assert_eq!(before.since(after), Duration::ZERO);
        assert_eq!(
            Tick::at(Duration::from_millis(1999)).since(Tick(0)),
            Duration::from_millis(1900)
        );
    }
}
