//! What queries find.

use super::*;
use crate::model::Sort;

#[tokio::test(flavor = "multi_thread")]
async fn queries_find_what_they_say() {
    let fake = with_sample();
    let header: [(&[u8], Option<&[u8]>); 1] = [(b"trace", Some(b"abc-1"))];
    fake.add_with(1, Some("h"), Some("{}"), 1_005_000, &header);
    let node = Node::start(&fake);
    let cases: &[(&str, &[(u32, i64)])] = &[
        ("", &[(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]),
        ("level:error", &[(0, 0), (0, 2)]),
        ("level:error AND user.id:42", &[(0, 0)]),
        ("user.id:42", &[(0, 0), (1, 1)]),
        ("connection", &[(0, 0), (0, 1), (1, 0)]),
        ("\"connection reset\"", &[(0, 0)]),
        ("\"connection peer\"", &[]),
        ("\"connection by\"~1", &[(0, 0), (0, 1)]),
        ("msg:\"opened by peer\"", &[(0, 1)]),
        ("msg:open*", &[(0, 1)]),
        ("conection~", &[(0, 0), (0, 1), (1, 0)]),
        ("level:eror~1", &[(0, 0), (0, 2)]),
        ("ms:>100", &[(0, 0)]),
        ("ms:[12 TO 13]", &[(0, 1)]),
        ("ms:[12.5 TO 250]", &[(0, 0), (0, 1)]),
        ("ms:12.5", &[(0, 1)]),
        ("level:[e TO f]", &[(0, 0), (0, 2)]),
        ("at:>2026-11-25T11:00:00Z", &[(0, 2)]),
        ("at:\"2026-11-25T12:00:00Z\"", &[(0, 2)]),
        ("ok:false", &[(0, 2)]),
        ("tags:blue", &[(1, 1)]),
        ("city:\"new york\"", &[(1, 1)]),
        ("city:york", &[(1, 1)]),
        ("user:*", &[(0, 0), (0, 1), (1, 1)]),
        ("msg:*", &[(0, 0), (0, 1), (0, 2)]),
        ("NOT level:*", &[(1, 0), (1, 2)]),
        ("connection -reset", &[(0, 1), (1, 0)]),
        ("level:(warn OR info)", &[(0, 1), (1, 1)]),
        ("key:order-1", &[(0, 0), (0, 2)]),
        ("key:order*", &[(0, 0), (0, 1), (0, 2)]),
        ("headers.trace:abc-1", &[(1, 2)]),
        ("partition:1 AND offset:[1 TO *]", &[(1, 1), (1, 2)]),
        ("timestamp:[1001000 TO 1003000]", &[(0, 1), (0, 2), (1, 0)]),
        ("nothing:here", &[]),
    ];
    for (q, expected) in cases {
        assert_eq!(node.find(q).await, *expected, "{q}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_follow_each_other_in_every_order() {
    let fake = Fake::new(2, "");
    for index in 0..57_i64 {
        // Times that are alike, and out of order.
        fake.add((index % 2) as i32, None, Some("{\"a\":\"x\"}"), 1000 + (index * 7) % 10);
    }
    let node = Node::start(&fake);
    for sort in [Sort::Newest, Sort::Oldest, Sort::Score] {
        let mut seen = Vec::new();
        let mut times = Vec::new();
        let mut request = SearchRequest { limit: Some(10), sort, ..query("a:x") };
        loop {
            let answer = node.ask(request.clone()).await;
            assert_eq!(answer.count, 57);
            seen.extend(answer.hits.iter().map(|hit| (hit.record.partition, hit.record.offset)));
            times.extend(answer.hits.iter().map(|hit| hit.record.timestamp));
            match answer.next {
                Some(next) => request.cursor = Some(next),
                None => break,
            }
        }
        match sort {
            Sort::Newest => assert!(times.is_sorted_by(|a, b| a >= b)),
            Sort::Oldest => assert!(times.is_sorted()),
            Sort::Score => {}
        }
        assert_eq!(seen.len(), 57, "{sort:?}");
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 57, "{sort:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_and_highlights_come_with_hits() {
    let node = Node::start(&with_sample());
    let request = SearchRequest {
        histogram: Some("2s".to_owned()),
        terms: vec!["level".to_owned(), "user.id".to_owned()],
        highlight: true,
        ..query("level:* AND (connection OR disk)")
    };
    let answer = node.ask(request).await;
    let histogram: Vec<(i64, u64)> =
        answer.histogram.iter().flatten().map(|bucket| (bucket.timestamp, bucket.count)).collect();
    assert_eq!(histogram, [(1_000_000, 2), (1_002_000, 1)]);
    let levels: Vec<(Value, u64)> =
        answer.terms["level"].values.iter().map(|bucket| (bucket.value.clone(), bucket.count)).collect();
    assert_eq!(levels.iter().map(|level| level.1).sum::<u64>(), 3);
    assert!(levels.contains(&(json!("info"), 1)), "{levels:?}");
    assert_eq!(answer.terms["user.id"].values.len(), 2);
    let newest = &answer.hits[0];
    assert_eq!(newest.highlights["msg"], ["<em>disk</em> full"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_queries_are_refused_with_their_place() {
    let node = Node::start(&with_sample());
    node.find("").await;
    let refused = async |request: SearchRequest| {
        let error = node.search.search("logs", request).await.unwrap_err();
        (error.status().as_u16(), error.body().clone())
    };
    let (status, body) = refused(query("level:(a OR")).await;
    assert_eq!((status, body.code.as_str(), body.position), (400, "bad_query", Some(11)));
    for request in [
        query("offset:[a TO 5]"),
        query("timestamp:>yesterday"),
        SearchRequest { limit: Some(5000), ..query("") },
        SearchRequest { since: Some("soon".to_owned()), ..query("") },
        SearchRequest { cursor: Some("x".to_owned()), ..query("") },
        SearchRequest { histogram: Some("often".to_owned()), ..query("") },
        SearchRequest { terms: vec!["key".to_owned()], ..query("") },
        SearchRequest { partitions: vec![9], ..query("") },
    ] {
        assert_eq!(refused(request.clone()).await.0, 400, "{request:?}");
    }
    let error = node.search.search("other", query("")).await.unwrap_err();
    assert_eq!(error.status().as_u16(), 404);
    node.fake.change(|topic| topic.enabled = false);
    assert_eq!(refused(query("")).await.0, 409);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_without_time_says_that_it_was_cut_off() {
    let fake = Fake::new(1, "");
    for index in 0..5000 {
        fake.add(0, None, Some("{\"a\":\"x\"}"), index);
    }
    let node = Node::start(&fake);
    node.ask(query("")).await;
    let engine = node.search.engine.clone().unwrap();
    let topic = node.search.find_searched("logs").unwrap();
    let request = crate::shard::ShardRequest {
        partitions: vec![0],
        timeout_ms: 0,
        ..node.search.plain(&topic.id, crate::query::parse("a:x").unwrap())
    };
    let answer = tokio::task::spawn_blocking(move || engine.search(&request)).await.unwrap().unwrap();
    assert!(answer.problems[0].contains("cut off"), "{:?}", answer.problems);
    assert!(answer.count < 5000);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_latest_record_of_a_key_is_found() {
    let fake = with_sample();
    let long = "x".repeat(2000);
    fake.add(0, Some(&format!("{long}a")), Some("1"), 1);
    fake.add(0, Some(&format!("{long}b")), Some("2"), 2);
    let node = Node::start(&fake);
    node.find("").await;
    assert_eq!(node.search.latest("logs", "order-1").await.unwrap().record.offset, 2);
    let found = node.search.latest("logs", &format!("{long}a")).await.unwrap();
    assert_eq!(found.record.value, json!(1));
    assert_eq!(node.search.latest("logs", "order").await.unwrap_err().status().as_u16(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn elasticsearch_is_spoken() {
    let node = Node::start(&with_sample());
    node.find("").await;
    let body = json!({
        "query": {"bool": {"filter": [{"range": {"@timestamp": {"gte": 1_000_000, "lte": 1_003_000}}}],
                           "must": [{"match": {"level": "error"}}]}},
        "sort": [{"@timestamp": {"order": "desc"}}],
        "size": 1,
        "aggs": {"per": {"date_histogram": {"field": "@timestamp", "fixed_interval": "1s", "min_doc_count": 1},
                         "aggs": {"levels": {"terms": {"field": "level"}}}}},
    });
    let answer = node.search.es_search("logs", &body).await.map_err(|refusal| refusal.reason).unwrap();
    assert_eq!(answer["hits"]["total"]["value"], 2);
    assert_eq!(answer["hits"]["hits"][0]["_id"], "0-2");
    assert_eq!(answer["hits"]["hits"][0]["_source"]["msg"], "disk full");
    let buckets = answer["aggregations"]["per"]["buckets"].as_array().unwrap();
    assert_eq!(buckets.len(), 2, "{buckets:?}");
    assert_eq!(buckets[0]["key"], 1_000_000);
    assert_eq!(buckets[0]["levels"]["buckets"][0]["doc_count"], 1);
    let after = answer["hits"]["hits"][0]["sort"].clone();
    let next = json!({"query": {"term": {"level": "error"}}, "sort": [{"@timestamp": "desc"}], "search_after": after});
    let answer = node.search.es_search("logs", &next).await.map_err(|refusal| refusal.reason).unwrap();
    assert_eq!(answer["hits"]["hits"][0]["_id"], "0-0");
    let refused = node.search.es_search("logs", &json!({"query": {"regexp": {}}})).await;
    assert_eq!(refused.err().map(|refusal| refusal.status), Some(400));
}
