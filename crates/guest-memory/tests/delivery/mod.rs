// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a peer delivers, made from a seed: bytes by ones to sevens, interruptions, nothing for now, an end.

/// First address of the first region.
pub(crate) const START: u64 = 0x1000;

/// Lengths in bytes of three regions, one behind the other, in several makes.
pub(crate) const LAYOUTS: [[usize; 3]; 4] = [[8, 8, 8], [1, 5, 30], [16, 3, 9], [13, 32, 7]];

/// What the peer does before a call on its stream goes on to the socket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Step {
    /// So many bytes more are there.
    Deliver(usize),
    /// A signal interrupts the call.
    Interrupt,
    /// Nothing more has come.
    Nothing,
}

/// One seed's story: where the bytes are to go, and how they come.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) layout: usize,
    /// Offset of the first byte in the first region.
    pub(crate) offset: usize,
    /// Bytes wanted, no more than there is memory.
    pub(crate) count: usize,
    /// Bytes that the peer has before its end.
    pub(crate) bytes: Vec<u8>,
    random: Random,
}

impl Script {
    pub(crate) fn of_seed(seed: u64) -> Self {
        let mut random = Random(seed);
        let layout = random.below(LAYOUTS.len());
        let room: usize = LAYOUTS[layout].iter().sum();
        let offset = random.below(LAYOUTS[layout][0]);
        let count = 1 + random.below(room - offset);
        // Mostly enough of them.
        let len = match random.below(4) {
            0 => random.below(count + 1),
            _ => count + random.below(8),
        };
        let first = random.below(200);
        // None is zero, which is what memory holds before.
        let byte = |at: usize| u8::try_from((first + at) % 255 + 1).unwrap();
        Self {
            layout,
            offset,
            count,
            bytes: (0..len).map(byte).collect(),
            random,
        }
    }

    /// Returns the guest address of the first byte.
    pub(crate) fn address(&self) -> u64 {
        START + self.offset as u64
    }

    /// Decides what comes before the next call.
    pub(crate) fn step(&mut self) -> Step {
        match self.random.below(8) {
            0 => Step::Interrupt,
            1 => Step::Nothing,
            _ => Step::Deliver(self.portion()),
        }
    }

    /// Returns from 1 to 7.
    pub(crate) fn portion(&mut self) -> usize {
        1 + self.random.below(7)
    }

    /// Returns what all of memory has to hold when the first `moved` bytes have arrived.
    pub(crate) fn model(&self, moved: usize) -> Vec<u8> {
        let mut model = vec![0; LAYOUTS[self.layout].iter().sum()];
        model[self.offset..][..moved].copy_from_slice(&self.bytes[..moved]);
        model
    }
}

/// The ranges of a layout's regions.
pub(crate) fn ranges(layout: usize) -> Vec<(u64, usize)> {
    let mut start = START;
    let range = |&len: &usize| {
        start += len as u64;
        (start - len as u64, len)
    };
    LAYOUTS[layout].iter().map(range).collect()
}

/// Small and the same everywhere: splitmix64.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((word ^ (word >> 31)) >> 33).unwrap() % end
    }
}
