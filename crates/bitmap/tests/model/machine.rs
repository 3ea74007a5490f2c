// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Threads as step machines over shared memory, with a store buffer each.

use crate::ledger::{Ledger, Passing};

/// The most threads of a scenario.
pub(crate) const THREADS: usize = 4;
/// Data in the guest's pages: the locations before [`Location::Leaf0`].
pub(crate) const DATA: usize = 3;
const LOCATIONS: usize = Location::LogB as usize + 1;
const REGISTERS: usize = 4;
/// Stores one buffer holds. A thread with a full one waits; no scenario needs that.
const BUFFERED: usize = 6;

/// A place in shared memory, eight bits wide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Location {
    /// Data in page 0.
    Page0,
    /// Other data in page 0.
    Page0Too,
    /// Data in page 1.
    Page1,
    /// The leaf word with page 0's bit.
    Leaf0,
    /// The leaf word with page 1's bit.
    Leaf1,
    /// The summary word, one bit per leaf word.
    Summary,
    /// Whether writers mark.
    Tracking,
    /// One while somebody holds the readers' lock.
    Lock,
    /// Pages the first reader has still to be told of.
    Pending0,
    /// The same for the second reader.
    Pending1,
    /// Which external log is the current one: 0 is A, 1 is B.
    Current,
    /// Writers that are using log A.
    UsersOfA,
    /// Writers that are using log B.
    UsersOfB,
    /// An external log of one word.
    LogA,
    /// The log it is exchanged for.
    LogB,
}

/// A thread's own storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Register {
    /// Pages that the thread has to copy.
    Dirty,
    /// What a swap took or a load found.
    Found,
    /// A word named by another one.
    Named,
    /// Something to keep while the others are used.
    Kept,
}

/// When a jump is taken.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Condition {
    /// The register holds none of these bits.
    Lacks(Register, u8),
    /// The register holds these bits.
    Has(Register, u8),
    /// The registers hold the same.
    Equal(Register, Register),
    /// The registers differ.
    Differ(Register, Register),
    /// In any case.
    Always,
}

/// One step of a thread.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    // Steps on shared memory: other threads may run between any two.
    Store(Location, u8),
    StoreRegister(Location, Register),
    Load(Register, Location),
    LockedOr(Location, u8),
    LockedAdd(Location, u8),
    LockedSwap(Register, Location, u8),
    Fence,
    ProcessBarrier,
    /// Takes the lock; waits while it is taken.
    Acquire(Location),
    /// Waits until the location holds zero.
    AwaitZero(Location),
    /// Waits until the first so many threads ended and their stores reached memory.
    AwaitEndOfFirst(usize),
    /// Copies a datum to the thread's destination.
    Copy(Location),

    // Steps that nobody else sees: done together with the step on memory before them.
    OrInto(Register, Register),
    SetBits(Register, u8),
    Jump(Condition, usize),

    // The ledger's notes. The first one is made together with the step after it, the others with the one
    // before: that asks the most of the protocol.
    HarvestBegins,
    HarvestEnds,
    WriteFinished(Location, u8),
    CopyEqualsMemory,
}

impl Op {
    fn is_on_memory(self) -> bool {
        !matches!(
            self,
            Self::OrInto(..)
                | Self::SetBits(..)
                | Self::Jump(..)
                | Self::HarvestBegins
                | Self::HarvestEnds
                | Self::WriteFinished(..)
                | Self::CopyEqualsMemory
        )
    }
}

/// What one thread does.
#[derive(Debug, Default)]
pub(crate) struct Program {
    pub(crate) name: &'static str,
    /// Which copy of the memory the thread makes, if it harvests.
    pub(crate) destination: usize,
    ops: Vec<Op>,
}

impl Program {
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            ..Self::default()
        }
    }

    /// Adds a step.
    pub(crate) fn push(&mut self, op: Op) {
        self.ops.push(op);
    }

    /// Adds the steps of `body`, which are passed over when `condition` holds.
    pub(crate) fn unless(&mut self, condition: Condition, body: impl FnOnce(&mut Self)) {
        let jump = self.ops.len();
        self.push(Op::Jump(condition, jump));
        body(self);
        self.ops[jump] = Op::Jump(condition, self.ops.len());
    }

    /// Where the next step will be, to jump back to.
    pub(crate) fn here(&self) -> usize {
        self.ops.len()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Buffer {
    len: usize,
    stores: [(u8, u8); BUFFERED],
}

impl Buffer {
    const EMPTY: Self = Self {
        len: 0,
        stores: [(0, 0); BUFFERED],
    };

    fn take_oldest(&mut self) -> Option<(u8, u8)> {
        self.len = self.len.checked_sub(1)?;
        let oldest = self.stores[0];
        self.stores.rotate_left(1);
        // Equal buffers compare as equal.
        self.stores[BUFFERED - 1] = (0, 0);
        Some(oldest)
    }
}

/// Everything that decides how things go on, and what was promised so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    memory: [u8; LOCATIONS],
    buffers: [Buffer; THREADS],
    next_op: [usize; THREADS],
    registers: [[u8; REGISTERS]; THREADS],
    ledger: Ledger,
}

/// What became of a thread's turn.
#[derive(Debug)]
pub(crate) enum Turn {
    /// The thread ended or has to wait.
    Idle,
    Done(Box<State>),
    /// The ledger found a promise broken.
    Broken(String),
}

/// A scenario: programs and what memory holds at first.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) programs: Vec<Program>,
    memory: [u8; LOCATIONS],
    passing: Passing,
}

impl Machine {
    pub(crate) fn new(programs: impl IntoIterator<Item = Program>) -> Self {
        let programs = Vec::from_iter(programs);
        assert!(programs.len() <= THREADS);
        Self {
            programs,
            memory: [0; LOCATIONS],
            passing: Passing::Once,
        }
    }

    /// Sets how often harvests at once may pass on what they owe.
    pub(crate) fn passing(mut self, passing: Passing) -> Self {
        self.passing = passing;
        self
    }

    /// Sets what a location holds at first.
    pub(crate) fn with(mut self, location: Location, value: u8) -> Self {
        self.memory[location as usize] = value;
        self
    }

    pub(crate) fn start(&self) -> State {
        State {
            memory: self.memory,
            buffers: [Buffer::EMPTY; THREADS],
            next_op: [0; THREADS],
            registers: [[0; REGISTERS]; THREADS],
            ledger: Ledger::default(),
        }
    }

    /// The oldest store of `thread` reaches memory.
    pub(crate) fn flush(&self, state: &State, thread: usize) -> Turn {
        let mut state = *state;
        if state.flush_one(thread) {
            Turn::Done(Box::new(state))
        } else {
            Turn::Idle
        }
    }

    /// One step of `thread` on memory, and what belongs to it.
    pub(crate) fn step(&self, state: &State, thread: usize) -> Turn {
        let mut state = *state;
        let program = &self.programs[thread];
        let mut stepped = false;
        while let Some(&op) = program.ops.get(state.next_op[thread]) {
            if stepped && (op.is_on_memory() || matches!(op, Op::HarvestBegins)) {
                break;
            }
            state.next_op[thread] += 1;
            if op.is_on_memory() {
                if !self.on_memory(&mut state, thread, op) {
                    return Turn::Idle;
                }
                stepped = true;
            } else if let Err(broken) = self.on_own(&mut state, thread, op) {
                return Turn::Broken(broken);
            }
        }
        if stepped {
            Turn::Done(Box::new(state))
        } else {
            Turn::Idle
        }
    }

    pub(crate) fn has_ended(&self, state: &State, thread: usize) -> bool {
        state.next_op[thread] == self.programs[thread].ops.len() && state.buffers[thread].len == 0
    }

    /// The step that `thread` would do next, for people.
    pub(crate) fn describe(&self, state: &State, thread: usize) -> String {
        let program = &self.programs[thread];
        let next = program.ops[state.next_op[thread]..]
            .iter()
            .find(|op| op.is_on_memory());
        match next {
            Some(op) => format!("{}: {op:?}", program.name),
            None => format!("{} ends", program.name),
        }
    }

    /// Does a step on memory; tells whether it could be done now.
    fn on_memory(&self, state: &mut State, thread: usize, op: Op) -> bool {
        match op {
            Op::Store(location, value) => return state.store(thread, location, value),
            Op::StoreRegister(location, register) => {
                let value = state.registers[thread][register as usize];
                return state.store(thread, location, value);
            }
            Op::Load(register, location) => {
                state.registers[thread][register as usize] = state.load(thread, location);
            }
            Op::LockedOr(location, bits) => *state.locked(thread, location) |= bits,
            Op::LockedAdd(location, addend) => {
                let value = state.locked(thread, location);
                *value = value.wrapping_add(addend);
            }
            Op::LockedSwap(register, location, value) => {
                let old = std::mem::replace(state.locked(thread, location), value);
                state.registers[thread][register as usize] = old;
            }
            Op::Fence => state.drain(thread),
            Op::ProcessBarrier => (0..THREADS).for_each(|thread| state.drain(thread)),
            Op::Acquire(location) => {
                if std::mem::replace(state.locked(thread, location), 1) != 0 {
                    return false;
                }
            }
            Op::AwaitZero(location) => return state.load(thread, location) == 0,
            Op::AwaitEndOfFirst(threads) => {
                return (0..threads).all(|thread| self.has_ended(state, thread));
            }
            Op::Copy(location) => {
                let value = state.load(thread, location);
                let destination = self.programs[thread].destination;
                state.ledger.copied(destination, location as usize, value);
            }
            _ => unreachable!("{op:?} is no step on memory"),
        }
        true
    }

    /// Does a step that no other thread sees.
    fn on_own(&self, state: &mut State, thread: usize, op: Op) -> Result<(), String> {
        let registers = &mut state.registers[thread];
        let destination = self.programs[thread].destination;
        match op {
            Op::OrInto(into, from) => registers[into as usize] |= registers[from as usize],
            Op::SetBits(register, bits) => registers[register as usize] |= bits,
            Op::Jump(condition, target) => {
                let taken = match condition {
                    Condition::Lacks(register, bits) => registers[register as usize] & bits == 0,
                    Condition::Has(register, bits) => registers[register as usize] & bits == bits,
                    Condition::Equal(one, other) => {
                        registers[one as usize] == registers[other as usize]
                    }
                    Condition::Differ(one, other) => {
                        registers[one as usize] != registers[other as usize]
                    }
                    Condition::Always => true,
                };
                if taken {
                    state.next_op[thread] = target;
                }
            }
            Op::HarvestBegins => state.ledger.harvest_begins(thread, destination),
            Op::HarvestEnds => {
                // What the registers held must not make equal states differ.
                *registers = [0; REGISTERS];
                state.ledger.harvest_ends(thread, self.passing)?;
            }
            Op::WriteFinished(location, value) => {
                *registers = [0; REGISTERS];
                state.ledger.write_finished(location as usize, value);
            }
            Op::CopyEqualsMemory => {
                let data: [u8; DATA] = std::array::from_fn(|datum| state.memory[datum]);
                state.ledger.copy_equals(destination, data)?;
            }
            _ => unreachable!("{op:?} is a step on memory"),
        }
        Ok(())
    }
}

impl State {
    fn store(&mut self, thread: usize, location: Location, value: u8) -> bool {
        let buffer = &mut self.buffers[thread];
        let Some(place) = buffer.stores.get_mut(buffer.len) else {
            return false;
        };
        *place = (location as u8, value);
        buffer.len += 1;
        true
    }

    fn load(&self, thread: usize, location: Location) -> u8 {
        let buffer = &self.buffers[thread];
        let own = buffer.stores[..buffer.len]
            .iter()
            .rev()
            .find(|(stored, _)| *stored == location as u8);
        match own {
            Some((_, value)) => *value,
            None => self.memory[location as usize],
        }
    }

    /// The place of a locked operation, after the stores before it.
    fn locked(&mut self, thread: usize, location: Location) -> &mut u8 {
        self.drain(thread);
        &mut self.memory[location as usize]
    }

    fn drain(&mut self, thread: usize) {
        while self.flush_one(thread) {}
    }

    fn flush_one(&mut self, thread: usize) -> bool {
        match self.buffers[thread].take_oldest() {
            Some((location, value)) => {
                self.memory[usize::from(location)] = value;
                true
            }
            None => false,
        }
    }
}
