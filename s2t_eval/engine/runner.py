"""Every forward pass of the engine: decode steps, several tokens at once and back, and whole texts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from s2t_eval.engine.attention import Segment
from s2t_eval.engine.cached_model import CachedModel
from s2t_eval.engine.packing import Packed, batches, pack_branches, pack_uncached, segment
from s2t_eval.engine.pass_results import CandidateStates, Prefilled
from s2t_eval.engine.prefix_cache import cached_prefix
from s2t_eval.engine.step_graphs import dropped_last
from s2t_eval.engine.transfer import to_device

PASS_TOKENS = {"cpu": 512}
PASS_TOKENS_ELSEWHERE = 4096
"""Most tokens of one prefill pass: bounds activations and masks. Short passes fit into a CPU's caches."""


class ModelRunner(CachedModel):
    """A `CachedModel` whose rows are filled, extended, branched and moved; see there for the arguments."""

    # ---------------------------------------------------------------- decode steps

    def append(self, tokens: Sequence[int], ids: Tensor | None = None) -> Tensor:
        """One token each for rows 0..n-1: the decode step.

        Positions stay on the device from one step to the next, and so do tokens that are there already, so
        that a step waits for nothing.

        Args:
            tokens: token of each row.
            ids: the same on the device, [n]; None copies them there.

        Returns:
            Hidden states [n, hidden].
        """
        num = len(tokens)
        if ids is None:
            ids = to_device(torch.tensor(tokens), self.device)
        lengths = [len(self.tokens[row]) for row in range(num)]
        positions = self._step_positions.at(lengths)
        index = positions + self.cache.row_starts(self.device)[:num]
        graphs = self._step_graphs()
        if graphs is None:
            own = positions[:, None]
            everyone = Segment(slice(0, num), slice(0, num), own, own, max(lengths) + 1)
            hidden = self.forward(Packed(ids, index, [everyone]), positions)
        else:
            dropped_last(self.tokens, range(num, graphs.rounded_rows(num)), self.cache.capacity)
            hidden = graphs.run(ids, positions, index, max(lengths) + 1)
            self.counters.passes += 1
            self.counters.tokens += num
        for row, token in enumerate(tokens):
            self.tokens[row].append(token)
        return hidden

    def branch(self, ids: Tensor, fired: Sequence[int], candidates: Tensor) -> Tensor:
        """One pass that appends one token to most rows and K candidates at one position to the fired rows.

        Args:
            ids: token of each row 0..n-1, [n]; for a fired row, its first candidate.
            fired: the rows that branch.
            candidates: all candidates of each fired row, [fired, K].

        Returns:
            Hidden states [n + fired * (K - 1), hidden]: first each row's first lane, then the
            remaining K - 1 lanes of each fired row. `commit` keeps one lane of each.
        """
        num = len(ids)
        lengths = torch.tensor([len(self.tokens[row]) for row in range(num)])
        everyone = slice(0, num)
        index = torch.arange(num) * self.cache.capacity + lengths
        own = lengths[:, None]
        packed = Packed(ids.cpu(), index, [segment(everyone, everyone, own, own)])
        if fired and candidates.shape[1] > 1:
            others = candidates[:, 1:].cpu()  # a pass is planned on the host
            capacity = self.cache.capacity
            packed = packed.followed_by(pack_branches(fired, lengths[list(fired)], others, capacity, num, 1))
        hidden = self.forward(packed)
        for row, token in enumerate(ids.tolist()):
            self.tokens[row].append(token)
        return hidden

    def commit(self, rows: Sequence[int], lanes: Sequence[int], ids: Sequence[int]) -> None:
        """Keep lane `lanes[i]` of branched row `rows[i]`, whose token is `ids[i]`; drop the others."""
        source, target = [], []
        for row, lane in zip(rows, lanes, strict=True):
            slot = row * self.cache.capacity + len(self.tokens[row]) - 1
            self.tokens[row].pop()
            if lane:
                source.append(slot + lane)
                target.append(slot)
        if source:
            self.cache.copy(torch.tensor(source), torch.tensor(target))
        for row, token in zip(rows, ids, strict=True):
            self.tokens[row].append(token)

    def move(self, moves: Sequence[tuple[int, int]]) -> None:
        """Move the slots and tokens of rows over other rows, each (source, target) in order, in one copy.

        A row that is moved on is copied from where it was first.
        """
        origins: dict[int, int] = {}
        for source, target in moves:
            origins[target] = origins.pop(source, source)
        moved = {target: self.tokens[origin] for target, origin in origins.items()}
        for _, target in moves:
            self.tokens[target] = []
        slots = [torch.arange(len(tokens)) for tokens in moved.values()]
        capacity = self.cache.capacity
        self.cache.copy(
            torch.cat([own + row * capacity for own, row in zip(slots, origins.values(), strict=True)]),
            torch.cat([own + row * capacity for own, row in zip(slots, origins, strict=True)]),
        )
        for source, _ in moves:
            self.tokens[source] = []
        for target, tokens in moved.items():
            self.tokens[target] = tokens

    # ---------------------------------------------------------------- several tokens at once, and back

    def extend(self, rows: Sequence[int], tokens: Sequence[Sequence[int]]) -> list[Tensor]:
        """Append any number of tokens to rows in ragged passes; the states at all of them.

        One pass serves all rows as long as it holds no more tokens than a prefill's. A verified chunk, and
        a drafted step of reasoning that is scored, are read in this way; `truncate` takes tokens back.

        Args:
            rows: rows to extend, ascending.
            tokens: the new ids of each; none at all leaves its row as it is.

        Returns:
            Hidden states [len(tokens[i]), hidden] of each row.
        """
        sizes = [len(new) for new in tokens]
        if rows and set(sizes) == {1} and list(rows) == list(range(len(rows))):  # a GPU replays it
            return list(self.append([token for [token] in tokens]).split(1))
        states = [torch.empty(0)] * len(rows)
        filled = [i for i, size in enumerate(sizes) if size]
        for part in batches(filled, sizes, self._pass_tokens):
            texts = [[*self.tokens[rows[i]], *tokens[i]] for i in part]
            hidden = self._compute([rows[i] for i in part], texts)
            for i, own in zip(part, hidden.split([sizes[i] for i in part]), strict=True):
                states[i] = own
        return states

    def truncate(self, row: int, length: int, are_numbers: bool = True) -> None:
        """Drop a row's tokens from `length` on; their slots are written anew by what follows.

        Args:
            row: its row.
            length: tokens that are kept.
            are_numbers: whether the slots that are dropped hold numbers. Others are cleared: until they are
                written anew, the masked slots of a row that is shorter than another one are read too.
        """
        del self.tokens[row][length:]
        if not are_numbers:
            self.cache.clear(row, length)

    # ---------------------------------------------------------------- whole texts

    def prefill(self, rows: Sequence[int], texts: Sequence[Sequence[int]]) -> Prefilled:
        """Fill rows with exactly these texts; only tokens that are in no row are computed.

        It is used for new prompts, and for a teacher whose rows lack the last tokens of their texts.

        Args:
            rows: rows to fill.
            texts: token ids of each, not empty.
        """
        hidden: dict[int, Tensor] = {}
        computed = [0] * len(rows)
        waiting = list(range(len(rows)))
        while waiting:
            plan = self.prefixes.plan(rows, texts, waiting, self.cache.capacity)
            for i in plan.now:
                self.tokens[rows[i]] = []
            if plan.source:
                self.cache.copy(torch.cat(plan.source), torch.cat(plan.target))
            for i, cached in zip(plan.now, plan.cached, strict=True):
                self.tokens[rows[i]] = list(texts[i][:cached])
                computed[i] = len(texts[i]) - cached
            for part in batches(plan.now, computed, self._pass_tokens):
                states = self._compute([rows[i] for i in part], [texts[i] for i in part])
                ends = torch.tensor([computed[i] for i in part]).cumsum(0) - 1
                hidden.update(zip(part, states[to_device(ends, states.device)], strict=True))
            waiting = plan.postponed
        return Prefilled(torch.stack([hidden[i] for i in range(len(rows))]), computed)

    def score_candidates(
        self, rows: Sequence[int], texts: Sequence[Sequence[int]], candidates: Tensor
    ) -> CandidateStates:
        """Compute the uncached tokens of these texts and, in the same pass, candidates after each of them.

        Afterwards the rows contain the texts and none of the candidates, because another token may be
        appended.

        Args:
            rows: rows of the texts.
            texts: token ids of each, not empty.
            candidates: token ids to append to each text, [rows, K]; with K = 0 only the texts are computed.
        """
        num, lanes = candidates.shape
        cached = [cached_prefix(text, self.tokens[row]) for row, text in zip(rows, texts, strict=True)]
        capacity = self.cache.capacity
        packed = pack_uncached(rows, texts, cached, capacity)
        sizes = [len(text) - start for text, start in zip(texts, cached, strict=True)]
        ends = torch.tensor(sizes).cumsum(0) - 1
        first_lane = sum(sizes)
        if lanes:
            lengths = torch.tensor([len(text) for text in texts])
            tried = pack_branches(rows, lengths, candidates.cpu(), capacity, first_lane, 0)
            packed = packed.followed_by(tried)
        for row, length in zip(rows, cached, strict=True):
            self.truncate(row, length)
        hidden = self.forward(packed)
        for row, text in zip(rows, texts, strict=True):
            self.tokens[row] = list(text)
        states = hidden[first_lane:].view(num, lanes, hidden.shape[-1])
        return CandidateStates(
            hidden[to_device(ends, hidden.device)], states, [size + lanes for size in sizes]
        )

    @torch.inference_mode()
    def encode(self, texts: Sequence[Sequence[int]]) -> list[Tensor]:
        """Hidden states at every token of each text, [len(text), hidden] each: a prefill without decoding.

        Nothing is cached: the rows are empty afterwards.
        """
        self.allocate(len(texts), max(len(text) for text in texts))
        self.forget()
        sizes = [len(text) for text in texts]
        states: list[Tensor] = []
        for part in batches(range(len(texts)), sizes, self._pass_tokens):
            hidden = self._compute(part, [texts[i] for i in part])
            states.extend(hidden.split([sizes[i] for i in part]))
        self.forget()
        return states

    @property
    def _pass_tokens(self) -> int:
        return PASS_TOKENS.get(self.device.type, PASS_TOKENS_ELSEWHERE)

    def _compute(self, rows: Sequence[int], texts: Sequence[Sequence[int]]) -> Tensor:
        """The hidden states at all uncached tokens of these texts, which become cached.

        In one ragged pass; a single text that is longer than a pass should be is read in several, because the
        mask of a pass grows with its tokens times those of the text.
        """
        if len(rows) > 1:
            return self._ragged_pass(rows, texts)
        [row], [text], limit = rows, texts, self._pass_tokens
        ends = [*range(len(self.tokens[row]) + limit, len(text), limit), len(text)]
        states = [self._ragged_pass(rows, [text[:end]]) for end in ends]
        return states[0] if len(states) == 1 else torch.cat(states)

    def _ragged_pass(self, rows: Sequence[int], texts: Sequence[Sequence[int]]) -> Tensor:
        packed = pack_uncached(rows, texts, [len(self.tokens[row]) for row in rows], self.cache.capacity)
        hidden = self.forward(packed)
        for row, text in zip(rows, texts, strict=True):
            self.tokens[row] = list(text)
        return hidden
