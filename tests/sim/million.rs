//! Very many connections at once on the simulated kernel: all open, all exchange
//! messages, all close. No descriptor limit of the machine is in the way, and nothing
//! but the server's own memory is counted.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use oneloop::services::Echo;
use oneloop::{AnyFraming, Limits, Server};

use super::kernel::World;
use super::plan::Plan;
use super::sys::SimSys;

/// Connections that call, speak or leave between two turns.
const AT_ONCE: usize = 4096;
const ROUNDS: u64 = 3;

/// What it took.
#[derive(Debug)]
pub(crate) struct Crowd {
    pub(crate) connections: usize,
    /// Memory that the server holds with all of them open and idle, in bytes.
    pub(crate) memory: i64,
    pub(crate) messages: u64,
    pub(crate) took: Duration,
}

fn quiet_plan(connections: usize) -> Plan {
    let mut plan = Plan::draw(0, u64::MAX, true);
    plan.chances.fill(0);
    plan.peers = 0;
    (plan.backlog, plan.descriptors) = (AT_ONCE, usize::MAX);
    plan.max_connections = connections;
    (plan.send_buffer, plan.receive_buffer, plan.batch) = (64 << 10, 64 << 10, 1024);
    plan.call_time = 0;
    (plan.per_ip, plan.accept_rate) = (None, None);
    plan
}

/// Opens `connections`, has each say [`ROUNDS`] messages, and closes them all.
pub(crate) fn crowd(connections: usize) -> Crowd {
    let begin = Instant::now();
    let mut world = World::new(quiet_plan(connections));
    world.sockets.reserve_exact(connections);
    let world = Rc::new(RefCell::new(world));
    let mut server = Server::with_sys(SimSys(world.clone()));
    let framing = AnyFraming::from_spec("lines", None).expect("a valid SPEC");
    let limits = Limits::default().max_connections(connections);
    let endpoint = server.add(framing, Echo, limits).expect("valid settings");
    server.listen(endpoint, "127.0.0.1:7000").expect("the kernel listens anywhere");
    let turn = |server: &mut Server<SimSys>| {
        let turn = server.turn(Some(Duration::ZERO));
        let _ = turn.expect("wait does not fail here");
    };

    let mut memory = 0;
    for _ in 0..connections.div_ceil(AT_ONCE) {
        let left = connections - world.borrow().sockets.len();
        for _ in 0..left.min(AT_ONCE) {
            world.borrow_mut().call(u32::MAX).expect("there is room in the queue");
        }
        while server.counters().open < world.borrow().sockets.len() {
            memory += allocation_counter::measure(|| turn(&mut server)).bytes_current;
        }
    }
    assert_eq!(server.counters().open, connections);

    for round in 0..ROUNDS {
        for from in (0..connections).step_by(AT_ONCE) {
            let those = from..(from + AT_ONCE).min(connections);
            let text = |conn: usize| format!("{round} of {conn}\n").into_bytes();
            for conn in those.clone() {
                world.borrow_mut().peer_sends(conn as u32, &text(conn));
            }
            for _ in 0..20 {
                turn(&mut server);
            }
            for conn in those {
                let mut w = world.borrow_mut();
                assert_eq!(w.sockets[conn].outbound.waiting(), text(conn), "the reply to {conn}");
                w.sockets[conn].outbound.end();
                w.sockets[conn].inbound.end();
            }
        }
    }
    assert_eq!(server.buffered_bytes(), 0);
    let messages = server.counters().traffic.messages_in;

    for from in (0..connections).step_by(AT_ONCE) {
        for conn in from..(from + AT_ONCE).min(connections) {
            world.borrow_mut().peer_finishes(conn as u32);
        }
        for _ in 0..20 {
            turn(&mut server);
        }
    }
    let counters = server.counters();
    assert_eq!((counters.open, counters.lingering), (0, 0));
    assert_eq!(counters.closed_by(oneloop::CloseReason::PeerEof), connections as u64);
    Crowd { connections, memory, messages, took: begin.elapsed() }
}
