//! What one address may have, and how fast one connection may go.
//!
//! ```text
//!  a caller ──▶ Quota: too many of its address? ─ per_ip ─▶ hung up on
//!                  │     too often?             ─ rate ───▶ hung up on
//!                  ▼
//!  a message ─▶ Pace: too fast? ─▶ it rests: nothing more is read until it may go on
//!  an error ──▶ Pace: too often? ─ rate ─▶ closed in order
//! ```
//!
//! A caller is hung up on without a word: an address beyond its limit is not owed a
//! descriptor for the time of a goodbye. A message is not lost but waits with the peer,
//! which is kinder and cheaper. All of this is off by default, and then takes no memory.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use super::limits::Limits;
use super::prefix::masked;
use super::rate::{Bucket, Rate};
use crate::proto::service::{CloseReason, ConnId};

/// Addresses whose rate of connecting is remembered, about 3 MiB. When there are more,
/// those that have rested are forgotten; if there are none, a further address is not
/// limited by this rate: it cannot be the one that calls too often.
pub(super) const MAX_ADDRESSES: usize = 65_536;
/// How often, at most, the table is searched for those.
const FORGET_EVERY: Duration = Duration::from_secs(1);
/// IPv6 addresses count by their network: a single host has 2^64 of them.
const V6_BITS: u8 = 64;

/// What addresses have and do.
#[derive(Debug, Default)]
pub(super) struct Quota {
    /// Connections by address. Only while there is a limit, and only of addresses that
    /// have one, so there are never more than connections.
    open: HashMap<IpAddr, usize>,
    accepts: HashMap<IpAddr, Bucket>,
    forget_at: Duration,
}

impl Quota {
    /// The most memory that this takes, in bytes. A table is at most half empty, a byte
    /// beside each place, and there twice while it grows.
    pub(super) fn most_bytes(limits: &Limits) -> usize {
        let table = |count: usize, each: usize| count.saturating_mul(4 * (each + 1));
        let open = limits
            .max_per_ip
            .map_or(0, |_| table(limits.max_connections, size_of::<(IpAddr, usize)>()));
        let accepts = limits
            .accepts_per_ip
            .map_or(0, |_| table(MAX_ADDRESSES, size_of::<(IpAddr, Bucket)>()));
        open.saturating_add(accepts)
    }

    /// Whether a caller from there may come in, and if not, why.
    pub(super) fn admits(
        &mut self,
        addr: Option<IpAddr>,
        limits: &Limits,
        now: Duration,
    ) -> Result<(), CloseReason> {
        let Some(addr) = counted(addr, limits) else { return Ok(()) };
        if let Some(rate) = limits.accepts_per_ip
            && !self.call(addr, rate, now)
        {
            return Err(CloseReason::Rate);
        }
        match limits.max_per_ip {
            Some(max) if self.open.get(&addr).is_some_and(|&open| open >= max) => {
                Err(CloseReason::PerIp)
            }
            _ => Ok(()),
        }
    }

    /// A caller from there came in.
    pub(super) fn enter(&mut self, addr: Option<IpAddr>, limits: &Limits) {
        if limits.max_per_ip.is_some()
            && let Some(addr) = counted(addr, limits)
        {
            *self.open.entry(addr).or_default() += 1;
        }
    }

    /// It is gone.
    pub(super) fn leave(&mut self, addr: Option<IpAddr>, limits: &Limits) {
        if limits.max_per_ip.is_some()
            && let Some(addr) = counted(addr, limits)
            && let Some(open) = self.open.get_mut(&addr)
        {
            *open -= 1;
            if *open == 0 {
                self.open.remove(&addr);
            }
        }
    }

    /// Whether an address does not call too often.
    fn call(&mut self, addr: IpAddr, rate: Rate, now: Duration) -> bool {
        if self.accepts.len() >= MAX_ADDRESSES && !self.accepts.contains_key(&addr) {
            if now < self.forget_at {
                return true;
            }
            self.forget_at = now + FORGET_EVERY;
            self.accepts.retain(|_, bucket| !bucket.is_full(now));
            if self.accepts.len() >= MAX_ADDRESSES {
                return true;
            }
        }
        let bucket = self.accepts.entry(addr).or_default();
        let allowed = bucket.left(rate, now) > 0;
        if allowed {
            bucket.take(rate, now, 1);
        }
        allowed
    }
}

/// As what an address counts, if it does. Callers at a Unix socket have none.
fn counted(addr: Option<IpAddr>, limits: &Limits) -> Option<IpAddr> {
    let addr = addr?.to_canonical();
    let bits = if addr.is_ipv4() { 32 } else { V6_BITS };
    let exempt = limits.exempt.iter().any(|prefix| prefix.contains(addr));
    (!exempt).then(|| masked(addr, bits))
}

/// How fast connections have been, by slot.
#[derive(Debug, Default)]
pub(super) struct Pace {
    messages: Option<Rate>,
    errors: Option<Rate>,
    slots: Vec<Slot>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    messages: Bucket,
    errors: Bucket,
    /// It will be called when it may go on.
    rests: bool,
}

impl Pace {
    pub(super) fn new(limits: &Limits) -> Self {
        let (messages, errors) = (limits.messages_per_second, limits.errors_per_second);
        Self { messages, errors, slots: Vec::new() }
    }

    /// What it remembers of a connection, in bytes; those that rest stand in a tree besides,
    /// whose places are half empty at the worst.
    pub(super) fn slot_bytes(limits: &Limits) -> usize {
        match (limits.messages_per_second, limits.errors_per_second) {
            (None, None) => 0,
            _ => size_of::<Slot>() + 2 * size_of::<(Duration, ConnId)>(),
        }
    }

    /// A slot has a new owner.
    pub(super) fn begin(&mut self, key: usize) {
        if self.messages.is_none() && self.errors.is_none() {
            return;
        }
        if self.slots.len() <= key {
            self.slots.resize(key + 1, Slot::default());
        }
        self.slots[key] = Slot::default();
    }

    /// How many messages of it may be served now.
    pub(super) fn allowance(&self, key: usize, now: Duration) -> usize {
        match (self.messages, self.slots.get(key)) {
            (Some(rate), Some(slot)) => slot.messages.left(rate, now),
            _ => usize::MAX,
        }
    }

    /// So many were served, and none may be any more: when it may go on, if nobody waits
    /// for that yet.
    pub(super) fn rest(&mut self, key: usize) -> Option<Duration> {
        let (rate, slot) = (self.messages?, self.slots.get_mut(key)?);
        let first = !std::mem::replace(&mut slot.rests, true);
        first.then(|| slot.messages.next(rate))
    }

    /// It may go on.
    pub(super) fn rested(&mut self, key: usize) {
        if let Some(slot) = self.slots.get_mut(key) {
            slot.rests = false;
        }
    }

    /// Notes what came of a turn. True: it made too many mistakes.
    pub(super) fn is_too_bad(
        &mut self,
        key: usize,
        served: usize,
        errors: u64,
        now: Duration,
    ) -> bool {
        let Some(slot) = self.slots.get_mut(key) else { return false };
        if let Some(rate) = self.messages {
            slot.messages.take(rate, now, served);
        }
        let Some(rate) = self.errors.filter(|_| errors > 0) else { return false };
        let errors = usize::try_from(errors).unwrap_or(usize::MAX);
        let too_many = errors > slot.errors.left(rate, now);
        slot.errors.take(rate, now, errors);
        too_many
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn the_table_of_addresses_is_bounded_and_who_rested_makes_room() {
        let limits = Limits::default().accepts_per_ip(Some(Rate::per_second(1)));
        let mut quota = Quota::default();
        let secs = Duration::from_secs;
        let addr = |n: usize| Some(IpAddr::V4(Ipv4Addr::from_bits(n as u32)));
        for n in 0..MAX_ADDRESSES + 100 {
            assert_eq!(quota.admits(addr(n), &limits, secs(10)), Ok(()));
        }
        assert_eq!(quota.accepts.len(), MAX_ADDRESSES);
        assert_eq!(quota.admits(addr(7), &limits, secs(10)), Err(CloseReason::Rate));
        // Beyond the table there is no limit; when the others have rested, there is.
        let late = addr(MAX_ADDRESSES + 1);
        assert_eq!(quota.admits(late, &limits, secs(10)), Ok(()));
        assert_eq!(quota.admits(late, &limits, secs(12)), Ok(()));
        assert_eq!(quota.admits(late, &limits, secs(12)), Err(CloseReason::Rate));
        assert_eq!(quota.accepts.len(), 1);
    }

    #[test]
    fn a_network_of_ipv6_is_one_address_and_who_leaves_makes_room() {
        let limits = Limits::default()
            .max_per_ip(Some(2))
            .exempt(vec!["2001:db8:0:9::/64".parse().unwrap(), "10.0.0.1".parse().unwrap()]);
        let mut quota = Quota::default();
        let mut come = |text: &str| {
            let addr = Some(text.parse().unwrap());
            let came = quota.admits(addr, &limits, Duration::ZERO);
            if came.is_ok() {
                quota.enter(addr, &limits);
            }
            came
        };
        assert_eq!((come("2001:db8::1"), come("2001:db8::2")), (Ok(()), Ok(())));
        assert_eq!(come("2001:db8::3"), Err(CloseReason::PerIp));
        assert_eq!(come("2001:db8:0:1::3"), Ok(()));
        assert_eq!((come("10.0.0.2"), come("::ffff:10.0.0.2")), (Ok(()), Ok(())));
        assert_eq!(come("10.0.0.2"), Err(CloseReason::PerIp));
        for _ in 0..9 {
            assert_eq!((come("10.0.0.1"), come("2001:db8:0:9::1")), (Ok(()), Ok(())));
        }
        quota.leave(Some("::ffff:10.0.0.2".parse().unwrap()), &limits);
        let addr = Some("10.0.0.2".parse().unwrap());
        assert_eq!(quota.admits(addr, &limits, Duration::ZERO), Ok(()));
        assert_eq!(quota.admits(None, &limits, Duration::ZERO), Ok(()), "a Unix socket");
    }

    /// `capacity` is seven eighths of the places, each of which has a byte beside it, and
    /// half as many were there besides while the table grew.
    #[test]
    fn the_tables_of_addresses_take_no_more_than_they_say_nor_half_of_that() {
        let limits = Limits::default()
            .max_per_ip(Some(1))
            .accepts_per_ip(Some(Rate::per_second(1)))
            .max_connections(MAX_ADDRESSES);
        let mut quota = Quota::default();
        for n in 0..MAX_ADDRESSES {
            let addr = Some(IpAddr::V4(Ipv4Addr::from_bits(n as u32)));
            assert_eq!(quota.admits(addr, &limits, Duration::ZERO), Ok(()));
            quota.enter(addr, &limits);
        }
        let table = |capacity: usize, each: usize| capacity * 8 / 7 * (each + 1) * 3 / 2;
        let taken = table(quota.open.capacity(), size_of::<(IpAddr, usize)>())
            + table(quota.accepts.capacity(), size_of::<(IpAddr, Bucket)>());
        let most = Quota::most_bytes(&limits);
        assert!((most / 2..=most).contains(&taken), "{taken} of {most} bytes");
    }

    #[test]
    fn a_rate_of_whichever_kind_takes_a_slot_and_two_places_in_the_tree_of_who_rests() {
        let rate = Some(Rate::per_second(1));
        let limits = Limits::default;
        assert_eq!(Pace::slot_bytes(&limits()), 0);
        for limits in [limits().messages_per_second(rate), limits().errors_per_second(rate)] {
            assert_eq!(Pace::slot_bytes(&limits), size_of::<Slot>() + 48);
        }
    }

    /// A storm from many addresses must not cost a search for each.
    #[test]
    fn a_full_table_is_searched_for_who_rested_once_a_second() {
        let limits = Limits::default().accepts_per_ip(Some(Rate::per_second(1000).burst(1)));
        let mut quota = Quota::default();
        let mut call = |n: usize, at: f64| {
            let addr = Some(IpAddr::V4(Ipv4Addr::from_bits(n as u32)));
            assert_eq!(quota.admits(addr, &limits, Duration::from_secs_f64(at)), Ok(()));
            quota.accepts.len()
        };
        (0..MAX_ADDRESSES).for_each(|n| _ = call(n, 10.0));
        assert_eq!(call(MAX_ADDRESSES, 10.0), MAX_ADDRESSES, "nobody has rested");
        assert_eq!(call(MAX_ADDRESSES, 10.5), MAX_ADDRESSES, "all have, and nobody looks");
        assert_eq!(call(MAX_ADDRESSES, 11.0), 1);
    }
}
