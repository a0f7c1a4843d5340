"""The pair's tokenizer: one token a word and a number, bytes for everything else.

Byte-level, so `decode(encode(text)) == text` for any text; the words of the problems and the
numbers 0..MAX_NUMBER are tokens of their own. There are no merges: a word in the vocabulary is
taken whole (`ignore_merges`, as in Llama 3), any other falls to its bytes.
"""

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from s2t_eval.embedded.arith import MAX_NUMBER

PAD, EOS = "<pad>", "<eos>"

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}{{ ' ' + message['content'] | trim + '\\n\\n' }}"
    "{% elif message['role'] == 'system' %}{{ message['content'] + '\\n\\n' }}"
    "{% else %}{{ message['content'] }}{% endif %}"
    "{% endfor %}"
)
"""The plain prompt format: what the pair was trained on has no roles."""


def build_tokenizer(texts: Iterable[str], max_length: int) -> PreTrainedTokenizerFast:
    """Build the tokenizer whose whole-word tokens are the words of `texts`, sorted.

    Args:
        texts: training texts; only their set of words matters.
        max_length: the models' context length in tokens.
    """
    splitter = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words = {word for text in texts for word, _ in splitter.pre_tokenize_str(text)}
    words |= {f"Ġ{number}" for number in range(MAX_NUMBER + 1)}
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    entries = [PAD, EOS, *alphabet, *sorted(words - set(alphabet))]
    vocab = {entry: token_id for token_id, entry in enumerate(entries)}
    backend = Tokenizer(models.BPE(vocab=vocab, merges=[], ignore_merges=True))
    backend.pre_tokenizer = splitter
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        eos_token=EOS,
        model_max_length=max_length,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
