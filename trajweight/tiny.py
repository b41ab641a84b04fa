"""A random small Llama and its tokenizer, built in memory for tests and first tries.

Nothing is read from disk: the vocabulary is the 256 bytes and what is learned from a few common
words, the weights come from a seed, and the chat template is a ChatML one that shows tools, tool
calls and reasoning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

if TYPE_CHECKING:
    from collections.abc import Iterable

_SPECIALS: Final = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")

#: What the vocabulary is learned from: words, alone and after a space.
_TEXT: Final = (
    "the be to of and in that have it for not on with he as you do at this but his by from they "
    "we say her she or an will my one all would there their what so up out if about who get which "
    "go me when make can like time no just him know take people into year your good some could "
    "them see other than then now look only come its over think also back after use two how our "
    "work first well way even new want because any these give day most us assistant user system "
    "tool name arguments role content answer question yes task step action result open close left "
    "right turn guess code search find move key door box room"
)

_CHAT_TEMPLATE: Final = """\
{%- if tools %}
{{- '<|im_start|>system\\n' }}
{%- if messages[0].role == 'system' %}{{- messages[0].content + '\\n\\n' }}{%- endif %}
{{- 'Tools:' }}
{%- for tool in tools %}{{- '\\n' + (tool | tojson) }}{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
{%- if not (tools and loop.first and message.role == 'system') %}
{{- '<|im_start|>' + message.role + '\\n' }}
{%- if message.reasoning_content %}
{{- '<think>' + message.reasoning_content + '</think>\\n' }}
{%- endif %}
{{- message.content }}
{%- for call in message.tool_calls or [] %}
{{- '\\n<tool_call>\\n' }}
{{- {'name': call.function.name, 'arguments': call.function.arguments} | tojson }}
{{- '\\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""


def build_tiny(seed: int = 0) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """Build the model and its tokenizer; the same seed gives the same weights.

    Args:
        seed: Decides the weights; the global random state is left as it was.

    Returns:
        A Llama of three layers and width 32 in float32, and a byte-level tokenizer.
    """
    tokenizer = learn_tokenizer([_TEXT, _TEXT.replace(" ", "\n")], vocabulary=1024)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    return model.train(mode=False), tokenizer


def learn_tokenizer(texts: Iterable[str], *, vocabulary: int) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer with the chat template; the same texts give the same tokens.

    Args:
        texts: What the vocabulary is learned from.
        vocabulary: Most tokens, the 256 bytes and the control tokens included.
    """
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        show_progress=False,
        special_tokens=[AddedToken(token, normalized=False) for token in _SPECIALS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    core.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=_CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )
