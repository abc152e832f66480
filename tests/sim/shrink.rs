//! A failing seed made smaller: fewer faults, peers, acts and events, as long as it
//! still fails; and the command that runs what is left.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::plan::{Fault, Plan};
use super::wire::Act;
use super::{Report, log, run};

/// Runs `plan`; the text of the panic if there is one.
pub(crate) fn attempt(plan: &Plan) -> Result<Report, String> {
    catch_unwind(AssertUnwindSafe(|| run(plan))).map_err(|panic| {
        // What is wrong first may lead to more.
        log::take_wrong().unwrap_or_else(|| text_of(&*panic))
    })
}

/// What a panic says.
pub(crate) fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_string()));
    text.unwrap_or_else(|| "a panic without a text".into())
}

/// The rule that a text names.
fn rule(text: &str) -> &str {
    text.split(':').next().unwrap_or_default()
}

/// The smallest plan found that breaks the same rule as `text` says, and what it says.
pub(crate) fn shrink(plan: &Plan, text: &str) -> (Plan, String) {
    let (mut best, mut said) = (plan.clone(), text.to_string());
    let mut tries = 300;
    loop {
        let before = tries;
        let mut smaller = false;
        for next in smaller_ones(&best) {
            if tries == 0 {
                return (best, said);
            }
            tries -= 1;
            if let Err(text) = attempt(&next)
                && rule(&text) == rule(&said)
            {
                (best, said, smaller) = (next, text, true);
                break;
            }
        }
        if !smaller || tries == before {
            return (best, said);
        }
    }
}

fn smaller_ones(plan: &Plan) -> Vec<Plan> {
    let mut list = Vec::new();
    for (index, &chance) in plan.chances.iter().enumerate() {
        if chance > 0 {
            let mut next = plan.clone();
            next.chances[index] = 0;
            list.push(next);
        }
    }
    for (index, &share) in plan.acts.iter().enumerate() {
        if share > 0 {
            let mut next = plan.clone();
            next.acts[index] = 0;
            list.push(next);
        }
    }
    for peers in [plan.peers / 2, plan.peers - 1] {
        if peers > 0 && peers < plan.peers {
            list.push(Plan { peers, ..plan.clone() });
        }
    }
    if plan.events > 50 {
        list.push(Plan { events: plan.events / 2, ..plan.clone() });
        list.push(Plan { events: plan.events * 7 / 8, ..plan.clone() });
    }
    if plan.messages > 1 {
        list.push(Plan { messages: plan.messages / 2, ..plan.clone() });
    }
    list
}

/// The command that runs `plan`.
pub(crate) fn command(plan: &Plan) -> String {
    let drawn = Plan::draw(plan.seed, plan.events, plan.small);
    let mut text = format!(
        "cargo run --release --example oneloop-sim -- --seed {} --events {}",
        plan.seed, plan.events
    );
    if plan.small {
        text += " --small";
    }
    if plan.peers != drawn.peers {
        text += &format!(" --peers {}", plan.peers);
    }
    if plan.messages != drawn.messages {
        text += &format!(" --messages {}", plan.messages);
    }
    let gone = |now: &[u32], then: &[u32], word: &dyn Fn(usize) -> String| -> Vec<String> {
        (0..now.len()).filter(|&at| now[at] == 0 && then[at] > 0).map(word).collect()
    };
    let mut without = gone(&plan.chances, &drawn.chances, &|at| Fault::WORDS[at].to_string());
    let acts = gone(&plan.acts, &drawn.acts, &|at| format!("act-{}", Act::ALL[at] as u8 as char));
    without.extend(acts);
    if !without.is_empty() {
        text += &format!(" --without {}", without.join(","));
    }
    text
}

/// Takes a fault, or an act, out of a plan by its word.
pub(crate) fn without(plan: &mut Plan, word: &str) -> Result<(), String> {
    let act = word.strip_prefix("act-").and_then(|name| name.bytes().next());
    if let Some(act) = act.and_then(Act::from_byte) {
        let at = Act::ALL.iter().position(|&one| one == act).expect("one of all");
        plan.acts[at] = 0;
    } else if let Some(fault) = Fault::from_word(word) {
        plan.chances[fault as usize] = 0;
    } else {
        return Err(format!("{word}: not one of {}", Fault::WORDS.join(", ")));
    }
    Ok(())
}
