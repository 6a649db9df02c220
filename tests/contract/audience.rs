//! The subscribers: `dinnerbell_core::ports::audience::Audience`.

use dinnerbell_core::model::late::{Added, Subscription};
use dinnerbell_core::model::page::{Page, PageRequest};
use dinnerbell_core::ports::audience::Audience;

/// Gives each case of the audience to a macro, which makes a test of it.
macro_rules! for_each_audience_case {
    ($test:ident) => {
        $test! { audience:
            pages_hold_each_subscriber_once_in_the_order_of_bytes,
            a_page_begins_behind_a_client_and_ends_at_one,
            ids_for_which_nobody_can_be_told_are_skipped_and_counted_on_the_first_page,
            a_restaurant_whose_id_is_too_long_is_favoured_by_nobody,
            many_pages_at_once_are_those_that_one_by_one_would_be,
            who_leaves_before_the_page_is_read_is_not_on_it,
            rows_that_were_added_come_in_the_order_of_their_ids,
            rows_that_cannot_be_told_are_added_by_their_ids_alone,
            favourites_are_found_by_their_ids_while_they_stand,
        }
    };
}
pub(crate) use for_each_audience_case;

/// A subscribers table of a case's own.
pub trait Environment {
    type Audience: Audience;

    async fn fresh() -> Self;
    fn audience(&self) -> Self::Audience;
    /// Adds a row; its id.
    async fn add(&self, client: &str, restaurant: &str) -> i64;
    /// Removes each row of a client who favours a restaurant.
    async fn remove(&self, client: &str, restaurant: &str);
}

fn wanted<'a>(restaurant_id: &'a str, after: Option<&'a str>, upto: Option<&'a str>, rows: usize) -> PageRequest<'a> {
    PageRequest { restaurant_id, after, upto, rows }
}

fn clients(page: &Page) -> Vec<&str> {
    page.clients.iter().collect()
}

async fn subscribe<E: Environment>(env: &E, restaurant: &str, clients: &[&str]) {
    for client in clients {
        env.add(client, restaurant).await;
    }
}

pub async fn pages_hold_each_subscriber_once_in_the_order_of_bytes<E: Environment>(env: &mut E) {
    subscribe(env, "pizzeria", &["b", "a", "B", "ä", "a", "Z", "z", "0", "é", "a"]).await;
    subscribe(env, "elsewhere", &["c"]).await;
    let expected = ["0", "B", "Z", "a", "b", "z", "ä", "é"];
    let audience = env.audience();
    for rows in [1, 3, 8, 9] {
        let (mut seen, mut after) = (Vec::new(), None::<String>);
        loop {
            let page = audience.page(wanted("pizzeria", after.as_deref(), None, rows)).await.unwrap();
            assert_eq!(page.last, page.clients.len() < rows, "a full page may not be the last");
            seen.extend(clients(&page).into_iter().map(str::to_owned));
            after = page.clients.last().map(str::to_owned);
            if page.last {
                break;
            }
        }
        assert_eq!(seen, expected, "{rows} rows a page");
    }
    assert_eq!(audience.page(wanted("nobody's", None, None, 5)).await.unwrap(), Page { last: true, ..Page::default() });
}

pub async fn a_page_begins_behind_a_client_and_ends_at_one<E: Environment>(env: &mut E) {
    subscribe(env, "pizzeria", &["a", "b", "c", "d", "e"]).await;
    let audience = env.audience();
    for (after, upto, rows, expected, last) in [
        (None, Some("d"), 3, vec!["a", "b", "c"], false),
        (Some("c"), Some("d"), 3, vec!["d"], true),
        (Some("bb"), Some("cc"), 3, vec!["c"], true),
        (Some("e"), None, 3, vec![], true),
        (Some("d"), Some("d"), 3, vec![], true),
        (Some("c"), None, 2, vec!["d", "e"], false),
    ] {
        let page = audience.page(wanted("pizzeria", after, upto, rows)).await.unwrap();
        assert_eq!((clients(&page), page.last), (expected, last), "{after:?} to {upto:?}");
    }
}

pub async fn ids_for_which_nobody_can_be_told_are_skipped_and_counted_on_the_first_page<E: Environment>(env: &mut E) {
    let (long, longest, wide) = ("x".repeat(257), "y".repeat(256), "ä".repeat(129));
    subscribe(env, "pizzeria", &["", "", &long, &long, "alice", &longest, &wide]).await;
    let audience = env.audience();
    let first = audience.page(wanted("pizzeria", None, None, 1)).await.unwrap();
    assert_eq!((clients(&first), first.skipped), (vec!["alice"], 3), "each once");
    let second = audience.page(wanted("pizzeria", Some("alice"), None, 2)).await.unwrap();
    assert_eq!((clients(&second), second.skipped, second.last), (vec![longest.as_str()], 0, true));
    let short = audience.page(wanted("pizzeria", None, Some("alice"), 5)).await.unwrap();
    assert_eq!((clients(&short), short.skipped), (vec!["alice"], 3), "wherever the page ends");
}

pub async fn a_restaurant_whose_id_is_too_long_is_favoured_by_nobody<E: Environment>(env: &mut E) {
    let (longest, long) = ("r".repeat(256), "r".repeat(257));
    subscribe(env, &longest, &["anna"]).await;
    subscribe(env, &long, &["anna", "", &long]).await;
    let audience = env.audience();
    assert_eq!(clients(&audience.page(wanted(&longest, None, None, 5)).await.unwrap()), ["anna"]);
    assert_eq!(audience.page(wanted(&long, None, None, 5)).await.unwrap(), Page { last: true, ..Page::default() });
}

pub async fn many_pages_at_once_are_those_that_one_by_one_would_be<E: Environment>(env: &mut E) {
    subscribe(env, "pizzeria", &["b", "a", "B", ""]).await;
    subscribe(env, "sushi", &["c", "d"]).await;
    let audience = env.audience();
    let many = [
        wanted("pizzeria", None, None, 2),
        wanted("nobody's", None, None, 2),
        wanted("sushi", None, None, 9),
        wanted("pizzeria", Some("B"), Some("a"), 2),
        wanted("sushi", Some("c"), None, 1),
    ];
    let pages = audience.pages(&many).await.unwrap();
    let pages: Vec<Page> = pages.into_iter().map(Result::unwrap).collect();
    assert_eq!(pages.len(), many.len());
    for (wanted, page) in many.iter().zip(&pages) {
        assert_eq!(*page, audience.page(*wanted).await.unwrap(), "{wanted:?}");
    }
    assert_eq!((clients(&pages[0]), pages[0].skipped), (vec!["B", "a"], 1));
    assert_eq!((clients(&pages[2]), clients(&pages[3]), clients(&pages[4])), (vec!["c", "d"], vec!["a"], vec!["d"]));
    assert!(audience.pages(&[]).await.unwrap().is_empty());
}

pub async fn who_leaves_before_the_page_is_read_is_not_on_it<E: Environment>(env: &mut E) {
    subscribe(env, "pizzeria", &["anna", "bob", "bob"]).await;
    env.remove("bob", "pizzeria").await;
    env.add("carl", "pizzeria").await;
    let page = env.audience().page(wanted("pizzeria", None, None, 5)).await.unwrap();
    assert_eq!(clients(&page), ["anna", "carl"]);
}

fn favourite(id: i64, client: &str, restaurant: &str) -> Subscription {
    Subscription { id, client_id: client.to_owned(), restaurant_id: restaurant.to_owned() }
}

pub async fn rows_that_were_added_come_in_the_order_of_their_ids<E: Environment>(env: &mut E) {
    let audience = env.audience();
    assert_eq!(audience.newest().await.unwrap(), 0, "nobody subscribed yet");
    assert_eq!(audience.added(0, 5).await.unwrap(), Added::default());
    let (one, two) = (env.add("anna", "pizzeria").await, env.add("bob", "sushi").await);
    let three = env.add("anna", "pizzeria").await;
    assert_eq!(audience.newest().await.unwrap(), three);
    let all = audience.added(0, 5).await.unwrap();
    assert_eq!(all.ids, [one, two, three]);
    let expected =
        [favourite(one, "anna", "pizzeria"), favourite(two, "bob", "sushi"), favourite(three, "anna", "pizzeria")];
    assert_eq!(all.favourites, expected, "each row by itself");
    assert_eq!(audience.added(0, 2).await.unwrap().ids, [one, two]);
    assert_eq!(audience.added(one, 1).await.unwrap().favourites, expected[1..2]);
    assert_eq!(audience.added(three, 5).await.unwrap(), Added::default());
    env.remove("bob", "sushi").await;
    assert_eq!(audience.added(0, 5).await.unwrap().ids, [one, three]);
}

pub async fn rows_that_cannot_be_told_are_added_by_their_ids_alone<E: Environment>(env: &mut E) {
    let long = "x".repeat(257);
    let mut ids = Vec::new();
    for (client, restaurant) in [("", "pizzeria"), ("anna", "pizzeria"), (&long, "pizzeria"), ("anna", &long)] {
        ids.push(env.add(client, restaurant).await);
    }
    let audience = env.audience();
    let added = audience.added(0, 10).await.unwrap();
    assert_eq!((added.ids, added.favourites), (ids.clone(), vec![favourite(ids[1], "anna", "pizzeria")]));
    assert_eq!(audience.newest().await.unwrap(), ids[3]);
    assert_eq!(audience.of_ids(&ids).await.unwrap(), [favourite(ids[1], "anna", "pizzeria")]);
    assert_eq!(audience.added(0, 1).await.unwrap(), Added { ids: vec![ids[0]], favourites: Vec::new() });
}

pub async fn favourites_are_found_by_their_ids_while_they_stand<E: Environment>(env: &mut E) {
    let (one, two, three) =
        (env.add("anna", "pizzeria").await, env.add("bob", "pizzeria").await, env.add("carl", "sushi").await);
    env.remove("bob", "pizzeria").await;
    let audience = env.audience();
    let mut found = audience.of_ids(&[three, two, one, three + 1_000]).await.unwrap();
    found.sort_by_key(|favourite| favourite.id);
    assert_eq!(found, [favourite(one, "anna", "pizzeria"), favourite(three, "carl", "sushi")]);
    assert!(audience.of_ids(&[]).await.unwrap().is_empty());
}
