"""The pair's tokenizer: one token for every word and number of the problems, bytes for everything else.

It is byte-level, so `decode(encode(text)) == text` for any text. The words of the problems and the numbers
0..MAX_NUMBER are tokens of their own. There are no merges: a word of the vocabulary is one token
(`ignore_merges`, as in Llama 3), and any other word is split into its bytes.
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
"""A template that adds no roles, because the pair was trained on prompts without roles."""


def build_tokenizer(texts: Iterable[str], max_length: int) -> PreTrainedTokenizerFast:
    """Build the tokenizer; its word tokens are the words of `texts`, sorted.

    Args:
        texts: training texts, of which only the set of words is used.
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
