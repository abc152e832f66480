use std::rc::Rc;

use super::*;
use crate::proto::framing::Lines;
use crate::proto::service::{ConnId, PeerAddr, Served};

const LIMITS: OutputLimits = OutputLimits { high: 20, low: 10, max: 60 };

/// A connection and all it needs, in tests without a socket.
struct Rig {
    conn: Conn<<Lines as Framing>::State, ()>,
    /// What the service does at the peer's end.
    goes_on: bool,
    pool: Pool,
    replies: Vec<u8>,
    post: Post,
    traffic: Traffic,
    now: Duration,
    finished: bool,
}

/// Sends every line back; `leave` closes.
struct Echo {
    goes_on: bool,
}

impl Service for Echo {
    type Session = ();

    fn message(&mut self, cx: &mut Context<'_>, (): &mut (), message: &[u8]) -> Served {
        if message == b"leave" {
            cx.close_after_flush();
        }
        cx.reply(message)
    }

    fn finished(&mut self, cx: &mut Context<'_>, (): &mut ()) -> Served {
        if self.goes_on {
            cx.keep_open();
        }
        Ok(())
    }
}

impl Rig {
    fn new() -> Self {
        let mut post = Post::new();
        post.add_encoder(Rc::new(Lines::default()));
        Self {
            conn: Conn::new(),
            goes_on: false,
            pool: Pool::new(),
            replies: Vec::new(),
            post,
            traffic: Traffic::default(),
            now: Duration::ZERO,
            finished: false,
        }
    }

    fn with(
        &mut self,
        f: impl FnOnce(&mut Conn<<Lines as Framing>::State, ()>, &mut Shared<'_, Lines, Echo>),
    ) {
        let peer = PeerAddr::from(std::net::SocketAddr::from(([127, 0, 0, 1], 1)));
        let mut service = Echo { goes_on: self.goes_on };
        let mut shared = Shared {
            framing: &Lines::default(),
            service: &mut service,
            pool: &mut self.pool,
            replies: &mut self.replies,
            posted: self.post.size(),
            post: &mut self.post,
            traffic: &mut self.traffic,
            info: CallInfo {
                id: ConnId::new(0, 0, 1),
                peer,
                now: self.now,
                connections: 1,
                output: LIMITS,
                connect_error: None,
            },
            tick: Tick::at(self.now),
            http_courtesy: true,
            allowance: usize::MAX,
            refused: None,
            reset: false,
        };
        f(&mut self.conn, &mut shared);
    }

    fn received(&mut self, bytes: &[u8]) {
        self.with(|conn, shared| conn.received(&mut bytes.to_vec(), 0, shared));
    }

    fn peer_finished(&mut self) {
        self.with(|conn, shared| conn.peer_finished(shared));
    }

    fn finish(&mut self) {
        self.conn.finish(&mut self.pool);
    }

    fn close(&mut self, reason: CloseReason) {
        self.conn.close(reason, &mut self.pool);
    }

    /// The socket takes at most `room` bytes; paused decoding goes on.
    fn send(&mut self, room: usize) -> Vec<u8> {
        let bytes = self.conn.to_send(&self.pool, &self.replies);
        let taken = bytes[..bytes.len().min(room)].to_vec();
        assert!(!self.finished || taken.is_empty(), "it speaks after its FIN");
        let tick = Tick::at(self.now);
        self.conn.sent(taken.len(), &mut self.pool, &mut self.replies, tick);
        if !self.conn.wants_write() {
            self.finished |= self.conn.flushed(&mut self.pool, tick);
        }
        self.with(|conn, shared| _ = conn.resume(shared));
        taken
    }

    fn late_after(&mut self, seconds: u64) -> Option<CloseReason> {
        self.now += Duration::from_secs(seconds);
        let clocks =
            Clocks { frame: Some(Duration::from_secs(30)), write: Some(Duration::from_secs(30)) };
        self.conn.late(Tick::at(self.now), &clocks, &self.pool)
    }
}

const ALL: usize = usize::MAX;
const EOF: CloseReason = CloseReason::PeerEof;
const APP: CloseReason = CloseReason::AppClose;

#[test]
fn a_life_goes_through_these_stages() {
    type Steps = fn(&mut Rig);
    #[rustfmt::skip]
        let cases: &[(&str, Steps, Life)] = &[
            ("a message",                     |rig| { rig.received(b"hi\n"); rig.send(ALL); },                      Life::Open),
            ("FIN between messages",          |rig| rig.peer_finished(),                                            Life::Flushing(EOF)),
            ("and nothing to send",           |rig| { rig.peer_finished(); rig.send(ALL); },                        Life::Closed(EOF)),
            ("FIN inside a message",          |rig| { rig.received(b"h"); rig.peer_finished(); },                   Life::Flushing(CloseReason::Truncated)),
            ("FIN before a reply has left",   |rig| { rig.received(b"hi\n"); rig.peer_finished(); rig.send(1); },   Life::Flushing(EOF)),
            ("and when it has",               |rig| { rig.received(b"hi\n"); rig.peer_finished(); rig.send(1); rig.send(2); }, Life::Closed(EOF)),
            ("the service closes",            |rig| rig.received(b"leave\nmore\n"),                                 Life::Draining(APP)),
            ("and its reply leaves",          |rig| { rig.received(b"leave\n"); rig.send(ALL); },                   Life::Lingering(APP)),
            ("and FIN comes",                 |rig| { rig.received(b"leave\n"); rig.send(ALL); rig.peer_finished(); }, Life::Closed(APP)),
            ("FIN comes first",               |rig| { rig.received(b"leave\n"); rig.peer_finished(); },              Life::Flushing(APP)),
            ("closed twice, the first counts", |rig| { rig.close(APP); rig.close(EOF); },                            Life::Draining(APP)),
            ("closed while it lingers",       |rig| { rig.close(APP); rig.send(ALL); rig.close(EOF); },              Life::Lingering(APP)),
            ("failed while it lingers",       |rig| { rig.close(APP); rig.send(ALL); rig.conn.fail(EOF, &mut rig.pool); }, Life::Closed(APP)),
            ("FIN while paused",              |rig| { rig.received(&b"0123456789\n".repeat(9)); rig.send(0); },     Life::Open),
        ];
    for (name, steps, life) in cases {
        let mut rig = Rig::new();
        steps(&mut rig);
        assert_eq!(rig.conn.life(), *life, "{name}");
        assert_eq!(
            rig.finished,
            matches!(life, Life::Lingering(_)) || *life == Life::Closed(APP),
            "{name}"
        );
        if let Life::Closed(_) = life {
            assert_eq!(rig.pool.buffers(), 0, "{name}");
        }
    }
}

/// Both ends finish in their own time: the last column says whether we have.
#[test]
fn one_side_can_finish_and_the_other_go_on() {
    type Steps = fn(&mut Rig);
    #[rustfmt::skip]
        let cases: &[(&str, Steps, Life, bool)] = &[
("we say nothing more",           |rig| { rig.received(b"hi\n"); rig.finish(); rig.send(1); },          Life::Finishing, false),
            ("and what we said has left",     |rig| { rig.received(b"hi\n"); rig.finish(); rig.send(ALL); },        Life::Finished, true),
            ("and the peer is heard",         |rig| { rig.finish(); rig.send(ALL); rig.received(b"hi\n"); rig.send(ALL); }, Life::Finished, true),
            ("and it finishes",               |rig| { rig.finish(); rig.send(ALL); rig.peer_finished(); rig.send(ALL); }, Life::Closed(EOF), true),
            ("and the service closes",        |rig| { rig.finish(); rig.send(ALL); rig.received(b"leave\n"); rig.send(ALL); }, Life::Lingering(APP), true),
            ("the peer says nothing more",    |rig| { rig.goes_on = true; rig.peer_finished(); rig.send(ALL); },    Life::HalfOpen, false),
            ("and the service closes",        |rig| { rig.goes_on = true; rig.peer_finished(); rig.close(APP); },   Life::Flushing(APP), false),
            ("and we finish, too",            |rig| { rig.goes_on = true; rig.peer_finished(); rig.finish(); rig.send(ALL); }, Life::Closed(EOF), false),
            ("both have finished",            |rig| { rig.goes_on = true; rig.finish(); rig.send(ALL); rig.peer_finished(); rig.send(ALL); }, Life::Closed(EOF), true),
        ];
    for (name, steps, life, finished) in cases {
        let mut rig = Rig::new();
        steps(&mut rig);
        assert_eq!((rig.conn.life(), rig.finished), (*life, *finished), "{name}");
    }
}

/// A peer that goes on asking must not keep our FIN from coming.
#[test]
fn once_we_say_nothing_more_only_what_waited_is_sent() {
    let mut rig = Rig::new();
    rig.received(b"one\n");
    rig.send(1);
    rig.finish();
    rig.received(b"two\n");
    assert_eq!(rig.traffic.messages_in, 2, "it listens");
    rig.peer_finished();
    assert!(!rig.conn.queue(b"news\n", &LIMITS, &mut rig.pool, Tick::default()));
    assert_eq!(rig.send(ALL), b"ne\n");
    assert_eq!(rig.conn.life(), Life::Closed(EOF));
}

#[test]
fn a_message_that_is_skipped_at_the_end_holds_nothing_while_the_service_goes_on() {
    let mut rig = Rig::new();
    rig.goes_on = true;
    rig.received(&vec![b'x'; 70_000]);
    rig.peer_finished();
    assert_eq!(rig.conn.life(), Life::HalfOpen);
    assert!(rig.conn.is_idle(), "a shutdown would wait for it");
    assert_eq!(rig.pool.buffers(), 0);
}

#[test]
fn output_above_high_pauses_between_messages_and_all_of_it_comes_in_the_end() {
    let mut rig = Rig::new();
    let stream: Vec<u8> = (0..9).flat_map(|n| format!("message {n}\n").into_bytes()).collect();
    rig.received(&stream);
    assert_eq!((rig.traffic.messages_in, rig.conn.wants_read()), (3, false));
    let mut sent = Vec::new();
    while sent.len() < stream.len() {
        let more = rig.send(7);
        assert!(!more.is_empty(), "stuck after {sent:?}");
        sent.extend(more);
    }
    assert_eq!(sent, stream);
    assert!(rig.conn.is_idle() && rig.conn.wants_read());
}

#[test]
fn each_clock_runs_while_its_cause_lasts() {
    let mut rig = Rig::new();
    assert_eq!(rig.late_after(1000), None, "nothing is waited for");
    rig.received(b"beg");
    assert_eq!(rig.late_after(30), None);
    assert_eq!(rig.late_after(1), Some(CloseReason::FrameDeadline));
    rig.received(b"in\n");
    rig.send(1);
    assert_eq!(rig.late_after(30), None);
    assert_eq!(rig.late_after(1), Some(CloseReason::WriteStall));
    rig.send(ALL);
    assert_eq!(rig.late_after(1000), None);
    rig.close(APP);
    rig.send(ALL);
    assert_eq!(rig.late_after(1), None);
    assert_eq!(rig.late_after(1), Some(APP), "it lingers no longer");
}

#[test]
fn what_is_thrown_away_is_no_message_that_could_be_late() {
    let mut rig = Rig::new();
    rig.received(b"hi\n");
    rig.send(1);
    rig.close(APP);
    rig.received(b"more");
    let clocks = Clocks { frame: Some(Duration::from_secs(30)), write: None };
    let later = Tick::at(Duration::from_secs(1000));
    assert_eq!(rig.conn.late(later, &clocks, &rig.pool), None);
}

#[test]
fn while_it_is_we_who_pause_the_peer_is_not_late() {
    let mut rig = Rig::new();
    rig.received(&b"0123456789\n".repeat(9));
    rig.send(1);
    assert!(!rig.conn.wants_read() && rig.conn.input.is_some());
    let clocks = Clocks { frame: Some(Duration::from_secs(30)), write: None };
    let later = Tick::at(Duration::from_secs(1000));
    assert_eq!(rig.conn.late(later, &clocks, &rig.pool), None);
}

#[test]
fn as_many_bytes_are_thrown_away_as_may_be_and_not_one_more() {
    let mut rig = Rig::new();
    rig.close(APP);
    rig.received(&vec![0; LINGER_BYTES]);
    assert_eq!(rig.conn.life(), Life::Draining(APP));
    rig.received(b"x");
    assert_eq!(rig.conn.life(), Life::Closed(APP));
}

#[test]
fn bytes_of_others_keep_their_place_and_stop_at_the_limit() {
    let mut rig = Rig::new();
    rig.received(b"reply\n");
    rig.send(2);
    let queue = |rig: &mut Rig, bytes: &[u8]| {
        rig.conn.queue(bytes, &LIMITS, &mut rig.pool, Tick::default())
    };
    assert!(queue(&mut rig, b"news\n"));
    assert_eq!(rig.send(ALL), b"ply\nnews\n");
    assert!(queue(&mut rig, &[b'x'; 60]));
    assert!(!queue(&mut rig, b"y"));
    assert_eq!(rig.conn.life(), Life::Closed(CloseReason::OutputCap));
    assert!(!queue(&mut rig, b"z"), "nobody is there");
}

#[test]
fn what_others_say_pauses_above_the_high_mark_and_nothing_at_all_does_not() {
    for (len, paused) in [(0, false), (LIMITS.high, false), (LIMITS.high + 1, true)] {
        let mut rig = Rig::new();
        assert!(rig.conn.queue(&vec![b'x'; len], &LIMITS, &mut rig.pool, Tick::default()));
        assert_eq!((rig.conn.wants_read(), rig.conn.wants_write()), (!paused, len > 0), "{len}");
        assert_eq!(rig.conn.is_behind(&LIMITS, &rig.pool), paused, "{len}");
    }
}

#[test]
fn bytes_that_there_is_no_memory_for_end_their_connection_and_leave_nothing_behind() {
    type Steps = fn(&mut Rig);
    #[rustfmt::skip]
        let cases: &[(&str, Steps, Steps)] = &[
            ("half a message",             |_| {},                       |rig| rig.received(b"half")),
            ("more of it than fits",       |rig| rig.received(b"half"),  |rig| rig.received(&[b'x'; 99])),
            ("the next one",               |rig| rig.received(&[b'x'; 60]), |rig| rig.received(b"y\nhalf")),
            ("a reply that does not leave", |_| {},                      |rig| { rig.received(b"hi\n"); rig.send(1); }),
            ("replies behind another",     |rig| { rig.received(b"hi\n"); rig.send(1); }, |rig| rig.received(&b"0123456\n".repeat(9))),
            ("what others say",            |_| {},                       |rig| assert!(!rig.conn.queue(b"hi\n", &LIMITS, &mut rig.pool, Tick::default()))),
        ];
    for (name, before, then) in cases {
        let mut rig = Rig::new();
        before(&mut rig);
        rig.pool.refuses = true;
        then(&mut rig);
        assert_eq!(rig.conn.life(), Life::Closed(CloseReason::Memory), "{name}");
        assert_eq!((rig.pool.buffers(), rig.pool.held_bytes()), (0, 0), "{name}");
        assert!(rig.replies.is_empty(), "{name}");
        assert!(rig.pool.is_over(), "{name}: and others give some back");
    }
}
