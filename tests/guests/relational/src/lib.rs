//! What Apache Kafka's `RelationalSmokeTest` judges: articles with the number of their comments, and comments with the
//! beginning of their article. It owns only this logic.

use millrace::SerdeError;
use millrace::prelude::*;

/// How much of an article's text goes with each comment.
const PREFIX: usize = 10;

fn topology(builder: &mut StreamsBuilder) {
    let articles = builder.table("in-article", Consumed::with(IntegerSerde, ArticleSerde), Materialized::default());
    let comments = builder.table("in-comment", Consumed::with(IntegerSerde, CommentSerde), Materialized::default());

    let counts = comments
        .group_by(|_, comment| (Some(comment.article), Some(1)), Grouped::with(IntegerSerde, IntegerSerde))
        .count(Materialized::default());
    articles
        .left_join_materialized(
            &counts,
            |article, count| (article.clone(), count.copied().unwrap_or(0)),
            Materialized::default().with_value_serde(AugmentedArticleSerde),
        )
        .to_stream()
        .to("out-augmented-article", Produced::default());

    comments
        .join_on_foreign_key_materialized(
            &articles,
            |_, comment| Some(comment.article),
            |comment, article| (comment.clone(), article.text.chars().take(PREFIX).collect::<String>()),
            TableJoined::default(),
            Materialized::default().with_value_serde(AugmentedCommentSerde),
        )
        .to_stream()
        .to("out-augmented-comment", Produced::default());
}

#[derive(Clone)]
struct Article {
    key: i32,
    timestamp: i64,
    text: String,
}

#[derive(Clone)]
struct Comment {
    key: i32,
    timestamp: i64,
    text: String,
    article: i32,
}

/// What is left to read of the driver's formats: numbers in big-endian, texts behind their length.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], SerdeError> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or_else(|| SerdeError::new("it is torn"))?;
        self.0 = rest;
        Ok(*bytes)
    }

    fn int(&mut self) -> Result<i32, SerdeError> {
        self.bytes().map(i32::from_be_bytes)
    }

    fn long(&mut self) -> Result<i64, SerdeError> {
        self.bytes().map(i64::from_be_bytes)
    }

    fn text(&mut self) -> Result<String, SerdeError> {
        let length = usize::try_from(self.int()?).map_err(SerdeError::new)?;
        let (text, rest) = self.0.split_at_checked(length).ok_or_else(|| SerdeError::new("it is torn"))?;
        self.0 = rest;
        String::from_utf8(text.to_vec()).map_err(SerdeError::new)
    }

    fn article(&mut self) -> Result<Article, SerdeError> {
        Ok(Article { key: self.int()?, timestamp: self.long()?, text: self.text()? })
    }

    fn comment(&mut self) -> Result<Comment, SerdeError> {
        Ok(Comment { key: self.int()?, timestamp: self.long()?, text: self.text()?, article: self.int()? })
    }
}

fn write_text(text: &str, out: &mut Vec<u8>) -> Result<(), SerdeError> {
    let length = i32::try_from(text.len()).map_err(SerdeError::new)?;
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

fn write_article(article: &Article, out: &mut Vec<u8>) -> Result<(), SerdeError> {
    out.extend_from_slice(&article.key.to_be_bytes());
    out.extend_from_slice(&article.timestamp.to_be_bytes());
    write_text(&article.text, out)
}

fn write_comment(comment: &Comment, out: &mut Vec<u8>) -> Result<(), SerdeError> {
    out.extend_from_slice(&comment.key.to_be_bytes());
    out.extend_from_slice(&comment.timestamp.to_be_bytes());
    write_text(&comment.text, out)?;
    out.extend_from_slice(&comment.article.to_be_bytes());
    Ok(())
}

macro_rules! serde {
    ($name:ident, $type:ty, $format:literal, $write:expr, $read:expr) => {
        struct $name;

        impl Serde for $name {
            type Value = $type;

            fn serialize(&self, value: &$type, out: &mut Vec<u8>) -> Result<(), SerdeError> {
                $write(value, out)
            }

            fn deserialize(&self, bytes: &[u8]) -> Result<$type, SerdeError> {
                $read(Fields(bytes))
            }

            fn format(&self) -> String {
                $format.to_owned()
            }
        }
    };
}

serde!(ArticleSerde, Article, "article", write_article, |mut fields: Fields<'_>| fields.article());
serde!(CommentSerde, Comment, "comment", write_comment, |mut fields: Fields<'_>| fields.comment());
serde!(
    AugmentedArticleSerde,
    (Article, i64),
    "augmented-article",
    |(article, comments): &(Article, i64), out: &mut Vec<u8>| {
        write_article(article, out)?;
        out.extend_from_slice(&comments.to_be_bytes());
        Ok(())
    },
    |mut fields: Fields<'_>| Ok((fields.article()?, fields.long()?))
);
serde!(
    AugmentedCommentSerde,
    (Comment, String),
    "augmented-comment",
    |(comment, beginning): &(Comment, String), out: &mut Vec<u8>| {
        write_comment(comment, out)?;
        write_text(beginning, out)
    },
    |mut fields: Fields<'_>| Ok((fields.comment()?, fields.text()?))
);

millrace::export!(topology);
