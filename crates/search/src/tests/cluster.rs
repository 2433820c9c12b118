//! Searches over several nodes.

use super::*;
use crate::shard::From;

/// Two nodes: partition 0 is on the first, 1 on the second, 2 on both.
fn two_nodes() -> (Node, Node) {
    let replicas = vec![vec![1], vec![2], vec![2, 1]];
    let (first, second) = (Fake::of_node(1, replicas.clone(), ""), Fake::of_node(2, replicas, ""));
    for index in 0..30_i64 {
        let value = json!({"n": index, "word": format!("w{}", index % 3)}).to_string();
        let partition = (index % 3) as i32;
        for fake in [&first, &second] {
            fake.add(partition, Some(&format!("k{index}")), Some(&value), 1000 + index);
        }
    }
    let (one, two) = (Node::start(&first), Node::start(&second));
    first.connect(2, Some(&two.search));
    second.connect(1, Some(&one.search));
    (one, two)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_node_finds_the_same() {
    let (one, two) = two_nodes();
    let request = SearchRequest {
        limit: Some(7),
        terms: vec!["word".to_owned()],
        histogram: Some("10ms".to_owned()),
        highlight: true,
        ..query("word:w* AND n:[3 TO 25]")
    };
    let mut answers = Vec::new();
    for node in [&one, &two] {
        let mut request = request.clone();
        let mut hits = Vec::new();
        loop {
            let answer = node.ask(request.clone()).await;
            assert_eq!((answer.count, answer.partial), (23, false), "{:?}", answer.problems);
            hits.extend(answer.hits.clone());
            match answer.next {
                Some(ref next) => request.cursor = Some(next.clone()),
                None => {
                    answers.push((hits, answer.terms, answer.histogram));
                    break;
                }
            }
        }
    }
    assert_eq!(answers[0].0.len(), 23);
    assert_eq!(answers[0], answers[1]);
    for node in [&one, &two] {
        assert_eq!(node.search.latest("logs", "k28").await.unwrap().record.timestamp, 1028);
        let records = node.search.records("logs", 1, From::Offset(4), 3).await.unwrap();
        let offsets: Vec<i64> = records.records.iter().map(|record| record.offset).collect();
        assert_eq!((offsets, records.next_offset), (vec![4, 5, 6], 7));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_reached_is_said() {
    let (one, _two) = two_nodes();
    assert_eq!(one.ask(query("")).await.count, 30);
    one.fake.connect(2, None);
    let answer = one.search.search("logs", query("")).await.unwrap();
    assert_eq!((answer.count, answer.partial), (20, true));
    assert!(answer.problems[0].contains("partition 1"), "{:?}", answer.problems);
    // The one that both have is found where it is left.
    let searched: Vec<u32> = answer.index.iter().map(|index| index.partition).collect();
    assert_eq!(searched, [0, 2]);
    assert_eq!(one.search.records("logs", 1, From::Start, 1).await.unwrap_err().status().as_u16(), 503);
}
