// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Where a collection keeps its regions: on boards that collections share, so that one with a region more or less copies
//! one board and not a reference to each region.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::array;

/// Places on a board.
const BOARD: usize = 64;

/// Things at places that stay theirs; a clone shares everything.
#[derive(Debug)]
pub(crate) struct Shelf<T> {
    boards: Vec<Arc<Board<T>>>,
}

/// The things on a board; `None` where a place is free.
type Board<T> = [Option<Arc<T>>; BOARD];

impl<T> Shelf<T> {
    /// Puts things at places 0, 1 and so on.
    pub(crate) fn new(things: Vec<Arc<T>>) -> Self {
        let board_count = things.len().div_ceil(BOARD);
        let mut things = things.into_iter();
        let boards = (0..board_count).map(|_| Arc::new(array::from_fn(|_| things.next())));
        Self {
            boards: boards.collect(),
        }
    }

    /// Returns the thing at a place.
    #[inline(always)]
    pub(crate) fn get(&self, place: usize) -> Option<&Arc<T>> {
        self.boards.get(place / BOARD)?[place % BOARD].as_ref()
    }

    /// Makes a shelf with one more thing; returns its place too.
    pub(crate) fn with(&self, thing: Arc<T>) -> (Self, usize) {
        let mut shelf = self.clone();
        let free = |board: &Arc<Board<T>>| board.iter().position(Option::is_none);
        // The last board is the likeliest to have room.
        let boards = shelf.boards.iter().enumerate().rev();
        let with_room = boards
            .filter_map(|(number, board)| Some((number, free(board)?)))
            .next();
        let (number, place) = with_room.unwrap_or((shelf.boards.len(), 0));
        if number == shelf.boards.len() {
            shelf.boards.push(Arc::new([const { None }; BOARD]));
        }
        let mut board = Board::clone(&shelf.boards[number]);
        board[place] = Some(thing);
        shelf.boards[number] = Arc::new(board);
        (shelf, number * BOARD + place)
    }

    /// Makes a shelf without the thing at a place; returns the thing too.
    pub(crate) fn without(&self, place: usize) -> Option<(Self, Arc<T>)> {
        let mut shelf = self.clone();
        let board = shelf.boards.get_mut(place / BOARD)?;
        let mut changed = Board::clone(board);
        let thing = changed[place % BOARD].take()?;
        *board = Arc::new(changed);
        let is_empty = |board: &Arc<Board<T>>| board.iter().all(Option::is_none);
        while shelf.boards.last().is_some_and(is_empty) {
            shelf.boards.pop();
        }
        Some((shelf, thing))
    }
}

impl<T> Clone for Shelf<T> {
    fn clone(&self) -> Self {
        Self {
            boards: self.boards.clone(),
        }
    }
}

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Self { boards: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;

    #[test]
    fn things_stay_at_their_places_while_others_come_and_go() {
        let mut shelf = Shelf::new((0..150).map(Arc::new).collect());
        let mut model: BTreeMap<usize, i32> =
            (0..150).map(|place| (place as usize, place)).collect();
        let mut state = 1_u64;
        for value in 150..1500 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let pick = (state >> 33) as usize;
            let before = (shelf.clone(), model.clone());
            if pick % 5 < 2 || model.is_empty() {
                let (with, place) = shelf.with(Arc::new(value));
                assert_eq!(model.insert(place, value), None, "{place} was free");
                shelf = with;
            } else {
                let place = *model.keys().nth(pick % model.len()).unwrap();
                let (without, thing) = shelf.without(place).unwrap();
                assert_eq!(model.remove(&place), Some(*thing));
                shelf = without;
            }
            for (shelf, model) in [(&shelf, &model), (&before.0, &before.1)] {
                let last = model.keys().next_back().copied().unwrap_or(0);
                for place in 0..last + 2 * BOARD {
                    assert_eq!(
                        shelf.get(place).map(|thing| **thing),
                        model.get(&place).copied()
                    );
                }
            }
        }
        assert!(shelf.without(usize::MAX).is_none());
        assert!(shelf.boards.len() <= 4, "no board is left empty at the end");
    }
}
