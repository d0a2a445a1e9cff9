"""Text in, a score out: a tf.Module with a vocabulary file that travels inside the version.

The file is a tf.saved_model.Asset, so it is copied into the version and found there by the server, wherever that runs.
Words are looked up in the graph: clients send plain strings, and get the ids and a score between -1 and 1.

    tfs export docs/examples/reviews.py:build --name reviews
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf

from deploy.export import Exportable

VOCABULARY = Path(__file__).with_name("reviews_words.txt")
WEIGHTS = [1.0, 1.5, 1.2, 0.4, -0.7, -1.0, -1.6, -0.8, 0.0]  # of the file's words, and of all others
LENGTH = 12  # words that are looked at


class Reviews(tf.Module):
    def __init__(self, vocabulary: Path) -> None:
        super().__init__()
        self.vocabulary = tf.saved_model.Asset(str(vocabulary))
        line, number = tf.lookup.TextFileIndex.WHOLE_LINE, tf.lookup.TextFileIndex.LINE_NUMBER
        words = tf.lookup.TextFileInitializer(self.vocabulary, tf.string, line, tf.int64, number)
        self.ids = tf.lookup.StaticHashTable(words, default_value=len(WEIGHTS) - 1)
        self.weights = tf.Variable(WEIGHTS)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def serving_default(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        plain = tf.strings.regex_replace(tf.strings.lower(text), "[^a-z ]", " ")
        words = tf.strings.split(plain).to_tensor("", shape=[None, LENGTH])
        ids = self.ids.lookup(words)
        return {"ids": ids, "score": tf.tanh(tf.reduce_sum(tf.gather(self.weights, ids), axis=1))}


def build() -> Exportable:
    return Exportable(Reviews(VOCABULARY), examples={"text": np.array(["A lovely, great day!", "not good", ""])})
