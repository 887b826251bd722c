use std::cell::Cell;

use super::*;
use crate::collections::slot_map::ids;

ids! {
    struct Number;
}

type Entry = Link<Number>;

fn contents(list: &List<Number>, map: &SlotMap<Number, Entry>) -> Vec<Number> {
    let found: Vec<_> = list.chain().ids(map, |link| link).collect();
    let mut from_back: Vec<_> = list.chain().ids_from_back(map, |link| link).collect();
    from_back.reverse();
    assert_eq!(found, from_back);
    assert_eq!(found.len(), list.len() as usize);
    assert_eq!((found.first().copied(), found.last().copied()), (list.front(map), list.back(map)));
    found
}

#[test]
fn entries_leave_from_anywhere_and_the_rest_keeps_its_order() {
    let mut map = SlotMap::new();
    let mut list = List::default();
    let ids: Vec<_> = (0..5).map(|_| map.insert(Entry::default())).collect();
    for &id in &ids {
        list.push_back(&mut map, id, |link| link);
    }
    list.remove(&mut map, ids[2], |link| link);
    list.remove(&mut map, ids[2], |link| link);
    assert_eq!(contents(&list, &map), [ids[0], ids[1], ids[3], ids[4]]);
    list.remove(&mut map, ids[0], |link| link);
    list.remove(&mut map, ids[4], |link| link);
    assert_eq!(contents(&list, &map), [ids[1], ids[3]]);
    list.push_back(&mut map, ids[0], |link| link);
    list.push_front(&mut map, ids[4], |link| link);
    assert_eq!(contents(&list, &map), [ids[4], ids[1], ids[3], ids[0]]);
}

#[test]
fn the_last_one_moves_before_those_that_are_later() {
    for number in [0, 1, 2, 3, 9] {
        let mut map: SlotMap<Number, (u32, Entry)> = SlotMap::new();
        let mut list = List::default();
        for other in [1, 3, 5, number] {
            let id = map.insert((other, Entry::default()));
            list.push_back(&mut map, id, |(_, link)| link);
        }
        let id = list.back(&map).expect("the last one");
        list.move_before(&mut map, id, |(other, _)| *other > number, |(_, link)| link);
        let numbers = |ids: Vec<Number>| ids.iter().map(|id| map[*id].0).collect::<Vec<_>>();
        let mut sorted = vec![1, 3, 5, number];
        sorted.sort_unstable();
        assert_eq!(numbers(list.chain().ids(&map, |(_, link)| link).collect()), sorted);
        sorted.reverse();
        assert_eq!(numbers(list.chain().ids_from_back(&map, |(_, link)| link).collect()), sorted);
        assert_eq!(list.len(), 4);
    }
}

#[test]
fn every_order_of_joining_and_leaving() {
    // Each number says where the next joins, or which leaves.
    for seed in 0..2_000 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut map: SlotMap<Number, Entry> = SlotMap::new();
        let (mut list, mut expected) = (List::default(), Vec::new());
        for _ in 0..rng.usize(1..20) {
            match rng.u32(..5) {
                0 if !expected.is_empty() => {
                    // The last one moves before so many, or before all others.
                    let most = Cell::new(rng.usize(..5));
                    let before = most.get().min(expected.len() - 1);
                    let id = expected.pop().expect("one");
                    expected.insert(expected.len() - before, id);
                    let later = |_: &Entry| most.replace(most.get().saturating_sub(1)) > 0;
                    list.move_before(&mut map, id, later, |link| link);
                }
                1 => {
                    let id = map.insert(Entry::default());
                    list.push_back(&mut map, id, |link| link);
                    expected.push(id);
                }
                2 => {
                    let id = map.insert(Entry::default());
                    list.push_front(&mut map, id, |link| link);
                    expected.insert(0, id);
                }
                _ if expected.is_empty() => {}
                _ => {
                    let id = expected.remove(rng.usize(..expected.len()));
                    list.remove(&mut map, id, |link| link);
                    if rng.bool() {
                        map.remove(id);
                    } else {
                        list.push_back(&mut map, id, |link| link);
                        expected.push(id);
                    }
                }
            }
            assert_eq!(contents(&list, &map), expected, "seed {seed}");
        }
    }
}

#[test]
fn an_entry_joins_before_the_first_that_is_later() {
    for length in 0..6_u32 {
        for number in 0..=2 * length {
            let mut map: SlotMap<Number, (u32, Entry)> = SlotMap::new();
            let mut list = List::default();
            for other in 0..length {
                let id = map.insert((2 * other + 1, Entry::default()));
                list.push_back(&mut map, id, |(_, link)| link);
            }
            let id = map.insert((number, Entry::default()));
            list.insert_before(&mut map, id, |(other, _)| *other > number, |(_, link)| link);
            let numbers = |ids: Vec<Number>| ids.iter().map(|id| map[*id].0).collect::<Vec<_>>();
            let mut sorted: Vec<_> =
                (0..length).map(|other| 2 * other + 1).chain([number]).collect();
            sorted.sort_unstable();
            assert_eq!(numbers(list.chain().ids(&map, |(_, link)| link).collect()), sorted);
            sorted.reverse();
            assert_eq!(
                numbers(list.chain().ids_from_back(&map, |(_, link)| link).collect()),
                sorted
            );
        }
    }
}
