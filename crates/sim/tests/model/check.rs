//! Visits every state of a model: the promises in each, and backwards from the end, whether a good run can still get there.
//!
//! stateright's checkers answer "no state breaks it" and "some state shows it", but keep no graph. Whether a good run can still complete is
//! asked of every reachable state, so here the graph is kept: the states, the first way to each, and which good step leads where. The
//! models are stateright's all the same, and its own checker has to come to the same answers (see [`agrees_with_stateright`]).

use std::fmt;
use std::hash::{Hash, Hasher};

use stateright::{Checker, Expectation, Model};

/// The promise that no single state shows to be broken.
pub const CAN_COMPLETE: &str = "a good run can still complete";

/// A model whose runs have an end to reach.
pub trait Protocol: Model<State: Copy + Eq + Hash + fmt::Debug, Action: Copy + PartialEq + fmt::Debug> {
    /// Whether a good run may hold the action: no harm (a crash, a lost reply), and nothing by an instance that is frozen for good.
    fn is_good(&self, action: &Self::Action) -> bool;
    /// Whether everything that was to be done is done.
    fn is_done(&self, state: &Self::State) -> bool;
}

/// What visiting every state found.
pub struct Visit {
    /// How many states were visited; all of them when nothing is broken.
    pub states: usize,
    /// The first promise found broken.
    pub broken: Option<Broken>,
    /// What should happen in some run, and did in none: a model that keeps its promises by doing nothing.
    pub unseen: Vec<&'static str>,
}

/// A promise and the shortest run that breaks it.
pub struct Broken {
    /// The property's name, or [`CAN_COMPLETE`].
    pub promise: &'static str,
    /// The steps, and the state in which they end.
    pub trace: Vec<String>,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "broken: {}", self.promise)?;
        self.trace.iter().enumerate().try_for_each(|(number, step)| writeln!(f, "  {:3} {step}", number + 1))
    }
}

/// Visits every state that can be reached, the nearest first.
pub fn visit<M: Protocol>(model: &M) -> Visit {
    let mut graph = Graph::from(model.init_states());
    let (promises, mut unseen): (Vec<_>, Vec<_>) =
        model.properties().into_iter().partition(|property| property.expectation == Expectation::Always);
    let mut actions = Vec::new();
    let mut at = 0;
    while at < graph.states.len() {
        let state = graph.states[at];
        if let Some(promise) = promises.iter().find(|promise| !(promise.condition)(model, &state)) {
            return graph.broken(model, at, promise.name);
        }
        unseen.retain(|event| !(event.condition)(model, &state));
        actions.clear();
        model.actions(&state, &mut actions);
        for action in actions.drain(..) {
            if let Some(after) = model.next_state(&state, action) {
                graph.lead(at, after, model.is_good(&action));
            }
        }
        at += 1;
    }
    match graph.first_hopeless(model) {
        Some(hopeless) => graph.broken(model, hopeless, CAN_COMPLETE),
        None => {
            Visit { states: graph.states.len(), broken: None, unseen: unseen.iter().map(|event| event.name).collect() }
        }
    }
}

/// Has stateright's own checker visit the same model: it must see as many states, break no promise, and see every event.
pub fn agrees_with_stateright<M>(model: M, states: usize)
where
    M: Protocol + Send + Sync + 'static,
    M::State: Send + Sync,
    M::Action: Send + Sync,
{
    let checker = model.checker().spawn_bfs().join();
    checker.assert_properties();
    assert_eq!(checker.unique_state_count(), states, "stateright visits other states");
}

/// Every state that was reached.
struct Graph<S> {
    states: Vec<S>,
    first_from: Vec<u32>,
    good: Vec<(u32, u32)>,
    table: Vec<u32>,
}

const FREE: u32 = u32::MAX;

impl<S: Copy + Eq + Hash + fmt::Debug> Graph<S> {
    fn from(first: Vec<S>) -> Self {
        let mut graph = Self { states: vec![], first_from: vec![], good: vec![], table: vec![FREE; 1 << 12] };
        for state in first {
            graph.number(state, FREE);
        }
        graph
    }

    fn lead(&mut self, from: usize, to: S, good: bool) {
        let from = u32::try_from(from).expect("a model of four thousand million states is not walked");
        let to = self.number(to, from);
        if good && from != to {
            self.good.push((from, to));
        }
    }

    /// The state's number; a new one gets the next.
    fn number(&mut self, state: S, from: u32) -> u32 {
        let slot = self.slot(&state);
        if self.table[slot] != FREE {
            return self.table[slot];
        }
        let number = u32::try_from(self.states.len()).expect("a model of four thousand million states is not walked");
        self.table[slot] = number;
        self.states.push(state);
        self.first_from.push(from);
        if self.states.len() * 2 > self.table.len() {
            self.table = vec![FREE; self.table.len() * 4];
            for number in 0..=number {
                let slot = self.slot(&self.states[number as usize]);
                self.table[slot] = number;
            }
        }
        number
    }

    /// Where the state stands in the table, or the free place for it.
    fn slot(&self, state: &S) -> usize {
        let mut hasher = Mix::default();
        state.hash(&mut hasher);
        let mask = self.table.len() - 1;
        let mut slot = usize::try_from(hasher.finish() & mask as u64).expect("masked by a usize");
        while self.table[slot] != FREE && self.states[self.table[slot] as usize] != *state {
            slot = (slot + 1) & mask;
        }
        slot
    }

    /// The first state from which no good run reaches the end.
    fn first_hopeless<M: Protocol<State = S>>(&self, model: &M) -> Option<usize> {
        let count = self.states.len();
        let mut begins = vec![0_u32; count + 1];
        for &(_, to) in &self.good {
            begins[to as usize + 1] += 1;
        }
        for at in 0..count {
            begins[at + 1] += begins[at];
        }
        let mut next = begins.clone();
        let mut into = vec![0_u32; self.good.len()];
        for &(from, to) in &self.good {
            into[next[to as usize] as usize] = from;
            next[to as usize] += 1;
        }
        let mut hope: Vec<bool> = self.states.iter().map(|state| model.is_done(state)).collect();
        let mut todo: Vec<usize> = (0..count).filter(|&at| hope[at]).collect();
        while let Some(at) = todo.pop() {
            for &from in &into[begins[at] as usize..begins[at + 1] as usize] {
                if !std::mem::replace(&mut hope[from as usize], true) {
                    todo.push(from as usize);
                }
            }
        }
        hope.iter().position(|&hope| !hope)
    }

    fn broken<M: Protocol<State = S>>(&self, model: &M, mut at: usize, promise: &'static str) -> Visit {
        let mut trace = vec![format!("{:?}", self.states[at])];
        while self.first_from[at] != FREE {
            let (before, after) = (&self.states[self.first_from[at] as usize], &self.states[at]);
            let mut actions = Vec::new();
            model.actions(before, &mut actions);
            let action = actions.into_iter().find(|&action| model.next_state(before, action).as_ref() == Some(after));
            trace.push(model.format_action(&action.expect("the visit took one of these")));
            at = self.first_from[at] as usize;
        }
        trace.reverse();
        Visit { states: self.states.len(), broken: Some(Broken { promise, trace }), unseen: vec![] }
    }
}

/// A quick hash for states of a few dozen bytes, eight at a time: exactness does not rest on it.
#[derive(Default)]
struct Mix {
    hash: u64,
    waiting: u64,
    count: u32,
}

impl Mix {
    fn mixed(&self) -> u64 {
        (self.hash.rotate_left(23) ^ self.waiting).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }
}

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u8(byte));
    }

    fn write_u8(&mut self, value: u8) {
        self.waiting = self.waiting << 8 | u64::from(value);
        self.count += 1;
        if self.count.is_multiple_of(8) {
            self.hash = self.mixed();
        }
    }

    /// Which variant of an enum: a byte tells them all apart.
    fn write_isize(&mut self, value: isize) {
        self.write_u8(value.to_le_bytes()[0]);
    }

    fn finish(&self) -> u64 {
        let hash = self.mixed();
        hash ^ (hash >> 32)
    }
}

/// What follows when one guard is taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Without {
    /// This promise is broken.
    Breaks(&'static str),
    /// Nothing: it stays only as an assertion that stops the one who finds it false. And why it is not needed.
    Holds(&'static str),
}

/// Visits the models, the smallest first, until one of them breaks a promise.
pub fn first_broken<M: Protocol>(models: &[M]) -> Visit {
    let mut states = 0;
    for model in models {
        let visit = visit(model);
        states += visit.states;
        if visit.broken.is_some() {
            return Visit { states, ..visit };
        }
    }
    Visit { states, broken: None, unseen: vec![] }
}
