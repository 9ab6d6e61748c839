"""A song's prediction as a page: the waveform with its lines, the words, the hardest lines, for each severity.

A switch shows one severity at a time. Its links carry the severity in the page's address (``report.html#moderate``,
``#all`` for all at once; ``#moderate-line-3`` is a line), so that a view can be sent to someone else. Without scripts,
and in print, all severities stand one below another and the links lead to them.

Colours are those of `scow.reports.plots.heat_colour`: dark blue is lost, yellow is caught. The waveform is drawn in the ink
that belongs to the colour below it, and every number is also there as text.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scow.reports.charts import WIDTH, Axis, Row, intervals, lines, nice_ticks
from scow.reports.markup import Html, element, join
from scow.reports.page import Section, figure, grid, heat_words, note, page, table, write_page
from scow.reports.plots import heat_colour
from scow.song.results import INTERVAL, ExcerptPrediction, HearingLossPrediction, SongPrediction
from scow.song.terminal import clock

HARDEST = 5
WIDE_ENOUGH = 7.0  # percent of the waveform's width that a score needs to be written on its line
WAVE_HEIGHT = 100.0

CSS = """
nav.switch { position: sticky; top: 0; z-index: 1; display: flex; flex-wrap: wrap; gap: 0.4rem; align-items: baseline;
  padding: 0.5rem 0; margin: 0.6rem 0; background: var(--paper); border-bottom: 1px solid var(--rule); }
nav.switch a { padding: 0.3rem 0.8rem; border: 1px solid var(--soft); border-radius: 0.4rem; color: var(--ink);
  text-decoration: none; }
nav.switch a[aria-current] { background: var(--ink); color: var(--paper); border-color: var(--ink); }
.severity { margin: 0 0 2rem; scroll-margin-top: 4rem; }
.severity [id] { scroll-margin-top: 5rem; }
.severity h3 { font-size: 1.1rem; margin: 1.2rem 0 0.4rem; }
.severity h4 { margin: 1.4rem 0 0.4rem; }
.wave { position: relative; margin: 0.4rem 0 2.6rem; }
.wave svg { display: block; width: 100%; height: 8rem; border-bottom: 1px solid var(--soft); }
.wave svg rect, .wave svg path { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
.wave .gap { fill: var(--soft); }
.wave a:hover rect, .wave a:focus rect { stroke: var(--ink); stroke-width: 3; vector-effect: non-scaling-stroke; }
.wave span { position: absolute; white-space: nowrap; transform: translateX(-50%); font-size: 0.85rem; }
.wave .time { top: 8.2rem; color: var(--soft); }
.wave .time:first-of-type { transform: none; }
.wave .time.end { transform: translateX(-100%); }
.wave .score { top: 0.25rem; font-weight: 600; pointer-events: none; }
.sung { line-height: 1.9; }
.sung small { margin-left: 0.3em; font-size: 0.72em; }
th, td { overflow-wrap: normal; }
td.words { overflow-wrap: anywhere; }
td p { margin: 0.1rem 0; }
details { color: var(--soft); font-size: 0.9rem; }
details p { margin: 0.15rem 0; }
@media print { nav.switch { display: none; } .severity[hidden] { display: block; } .severity { break-before: page; }
  .severity:first-of-type { break-before: auto; } }
"""

SCRIPT = """
(() => {
  const parts = [...document.querySelectorAll(".severity")];
  const links = [...document.querySelectorAll("nav.switch a")];
  const show = () => {
    const asked = location.hash.slice(1), name = asked.split("-line-")[0];
    const chosen = name === "all" || parts.some((part) => part.id === name) ? name : parts[0].id;
    for (const part of parts) part.hidden = chosen !== "all" && part.id !== chosen;
    for (const link of links) {
      if (link.hash.slice(1) === chosen) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
    if (asked !== name) document.getElementById(asked)?.scrollIntoView();
  };
  for (const link of links) link.addEventListener("click", (event) => {
    event.preventDefault();  // the page stays where it is, unlike with a jump to the part
    history.replaceState(null, "", link.hash);
    show();
  });
  addEventListener("hashchange", show);
  show();
})();
"""


def write_song_report(path: Path, song: SongPrediction) -> None:
    """Write the page."""
    write_page(path, song_report(song))


def song_report(song: SongPrediction) -> Html:
    """The page of a song or of a single excerpt."""
    n_words = sum(len(line.severities[0].words) for line in song.lines)
    n_lines = "1 line" if len(song.lines) == 1 else f"{len(song.lines)} lines"
    what = f"{clock(song.duration_s)} long, {n_lines}, {n_words} words."
    lead = join(
        element("p", what, " Predicted: the share of the words, 0 to 100, that a listener writes down."),
        element("p", "Each word's colour: ", _legend(), " percent of listeners write it down."),
    )
    sections = [Section("Scores", _scores(song)), Section("Transcriber by listener", _listeners(song))]
    if song.failed:
        rows = [(clock(line.start_s), line.lyrics, line.reason) for line in song.failed]
        sections.append(
            Section("Lines that could not be predicted", (table(("time", "line", "why"), rows, wordy=(1, 2)),))
        )
    sections.append(Section("How this came about", _method(song)))
    script = SCRIPT if len(song.hearing_losses) > 1 else ""
    return page(f"What a listener catches of {song.name}", sections, lead=lead, css=CSS, script=script)


def _scores(song: SongPrediction) -> tuple[object, ...]:
    """The figures of each severity, and their picture."""
    if len(song.lines) == 1:
        severities = song.lines[0].severities
        rows: list[tuple[object, ...]] = [(s.hearing_loss, f"{s.score:.1f}", _ends(s)) for s in severities]
        figures = table(
            ("hearing loss", "score", f"{INTERVAL:.0%} of listeners"),
            rows,
            caption=f"Score, and where {INTERVAL:.0%} of single listeners lie",
            numeric=(1, 2),
        )
        said = "; ".join(f"{s.hearing_loss} {s.score:.0f}, from {s.low:.0f} to {s.high:.0f}" for s in severities)
        chart = intervals(
            [Row(s.hearing_loss, s.score, s.low, s.high, i) for i, s in enumerate(severities)],
            title="Score by hearing loss",
            description=f"{said}.",
            x_axis=Axis(0.0, 100.0, "words written down (%)"),
        )
        return (grid(figures, figure(chart, "Score by hearing loss", "Dots: mean. Lines: most single listeners.")),)
    names = song.hearing_losses
    figures = table(
        ("hearing loss", "score", "hardest line", "easiest line"),
        [(name, f"{song.score(name):.1f}", *(f"{value:.1f}" for value in _extremes(song, name))) for name in names],
        caption="Mean over all lines, each weighted by its number of words",
        numeric=(1, 2, 3),
    )
    series = {
        name: ([line.start_s for line in song.lines], [line.at(name).score for line in song.lines]) for name in names
    }
    said = "; ".join(f"{name} from {_extremes(song, name)[0]:.0f} to {_extremes(song, name)[1]:.0f}" for name in names)
    chart = lines(
        series,
        title="Score of each line over time",
        description=f"{len(song.lines)} lines. {said}.",
        x_axis=Axis(0.0, song.duration_s, "time (s)"),
        y_axis=Axis(0.0, 100.0, "score"),
        width=WIDTH,
    )
    return (grid(figures, figure(chart, "Score of each line over time")),)


def _listeners(song: SongPrediction) -> tuple[object, ...]:
    """The switch, and a part for each severity."""
    parts = [_listener(song, name) for name in song.hearing_losses]
    if len(parts) == 1:
        return tuple(parts)
    links = [element("a", name, href=f"#{_id(name)}") for name in song.hearing_losses]
    switch = element(
        "nav", "Hearing loss:", *links, element("a", "All", href="#all"), class_="switch", aria_label="Hearing loss"
    )
    return (switch, *parts)


def _listener(song: SongPrediction, name: str) -> Html:
    """What listeners with one severity catch."""
    title = f"{'No hearing loss' if name == 'No Loss' else f'{name} hearing loss'}: {song.score(name):.1f}"
    content = [element("h3", title), _wave(song, name), *_words(song, name)]
    if len(song.lines) > 2:
        content += [element("h4", "Hardest lines"), _hardest(song, name)]
    return element("div", *content, class_="severity", id=_id(name))


def _wave(song: SongPrediction, name: str) -> Html:
    """The waveform; each line on the colour of its score, and a link to its words.

    The picture holds no text, so that it can be stretched to any width; times and scores stand on it.
    """
    step = song.duration_s / len(song.outline)
    marks: list[Html] = []
    texts: list[Html] = []
    taken: list[tuple[float, float]] = []
    for number, line in enumerate(song.lines, start=1):
        score = line.at(name).score
        ground, ink = heat_colour(score / 100)
        left, right = line.start_s / song.duration_s * WIDTH, line.end_s / song.duration_s * WIDTH
        marks.append(
            element(
                "a",
                element("title", f"{clock(line.start_s)}, score {score:.0f}: {line.lyrics}"),
                element("rect", x=left, y=0.0, width=right - left, height=WAVE_HEIGHT, fill=ground),
                _outline(song, step, line.start_s, line.end_s, fill=ink, fill_opacity=0.75),
                href=f"#{_id(name)}-line-{number}",
            )
        )
        taken.append((line.start_s, line.end_s))
        if (right - left) / WIDTH * 100 >= WIDE_ENOUGH:
            place = f"left: {(left + right) / 2 / WIDTH:.2%}; color: {ink}"
            texts.append(element("span", f"{score:.0f}", class_="score", style=place, aria_hidden="true"))
    gaps = [_outline(song, step, start, end, class_="gap") for start, end in _gaps(taken, song.duration_s)]
    scores = ", ".join(f"{line.at(name).score:.0f}" for line in song.lines)
    svg = element(
        "svg",
        element("title", f"Waveform of {song.name}, {name}"),
        element("desc", f"Lines in the order of time, with scores {scores}."),
        *gaps,
        *marks,
        viewBox=f"0 0 {WIDTH:g} {WAVE_HEIGHT:g}",
        preserveAspectRatio="none",
        role="group",
        aria_label=f"Waveform with {len(song.lines)} lines, coloured by score",
    )
    ticks = [tick for tick in nice_ticks(0.0, song.duration_s, 4) if tick < 0.92 * song.duration_s]
    times = [
        element("span", _minutes(tick), class_="time", style=f"left: {tick / song.duration_s:.2%}") for tick in ticks
    ]
    times.append(element("span", _minutes(song.duration_s), class_="time end", style="left: 100%"))
    return element("div", svg, *times, *texts, class_="wave")


def _outline(song: SongPrediction, step: float, start_s: float, end_s: float, **attributes: object) -> Html:
    """The part of the waveform between two times, as a closed path."""
    largest = max(max(abs(low), abs(high)) for low, high in song.outline) or 1.0
    first, last = int(start_s / step), min(len(song.outline), int(end_s / step) + 1)
    upper, lower = [], []
    for k in range(first, last):
        at = min(max(k * step, start_s), end_s) / song.duration_s * WIDTH
        to = min(max((k + 1) * step, start_s), end_s) / song.duration_s * WIDTH
        low, high = song.outline[k]
        for x in (at, to):
            upper.append(f"{x:.1f} {WAVE_HEIGHT / 2 * (1 - 0.92 * high / largest):.1f}")
            lower.append(f"{x:.1f} {WAVE_HEIGHT / 2 * (1 - 0.92 * low / largest):.1f}")
    return element("path", d=f"M{' L'.join([*upper, *reversed(lower)])}Z" if upper else "M0 0", **attributes)


def _gaps(taken: Sequence[tuple[float, float]], duration_s: float) -> list[tuple[float, float]]:
    """Times between the lines."""
    gaps, at = [], 0.0
    for start, end in sorted(taken):
        if start > at:
            gaps.append((at, start))
        at = max(at, end)
    return [*gaps, (at, duration_s)] if at < duration_s else gaps


def _words(song: SongPrediction, name: str) -> list[Html]:
    """Each line's words on the colours of their probabilities, and what each ear heard."""
    rows: list[tuple[object, ...]] = []
    for number, line in enumerate(song.lines, start=1):
        severity = line.at(name)
        place = element("span", clock(line.start_s), id=f"{_id(name)}-line-{number}")
        rows.append(
            (place, f"{severity.score:.0f}", _ends(severity), _sung(line, severity, alone=len(song.lines) == 1))
        )
    header = ("time", "score", f"{INTERVAL:.0%}", "words, and percent of listeners who write each down")
    return [element("h4", "The words"), table(header, rows, numeric=(0, 1, 2), wordy=(3,))]


def _sung(line: ExcerptPrediction, severity: HearingLossPrediction, *, alone: bool) -> Html:
    shares = [word.probability for word in severity.words]
    # The number stands beside the word, for paper, and for screens on which nothing is pointed at.
    shown = [join(word.word, element("small", f"{100 * word.probability:.0f}")) for word in severity.words]
    tips = [f"{word.word}: {word.probability:.0%} of listeners" for word in severity.words]
    heard = [element("p", f"{heard.ear} ear, {heard.model}: ", heard.shown()) for heard in severity.heard]
    return join(
        element("div", heat_words(shown, shares, tips), class_="sung"),
        element(
            "details",
            element("summary", "what Whisper heard"),
            *heard,
            element("p", f"lyrics as given: {line.lyrics}"),
            open="" if alone else None,
        ),
    )


def _hardest(song: SongPrediction, name: str) -> Html:
    rows: list[tuple[object, ...]] = []
    for line in song.hardest(name, min(HARDEST, len(song.lines) - 1)):
        severity = line.at(name)
        largest = severity.heard[-2:]  # the checkpoint's last model is its largest; one entry per ear
        heard = [element("p", f"{heard.ear} ear heard: {heard.shown()}", class_="note") for heard in largest]
        rows.append((clock(line.start_s), f"{severity.score:.0f}", join(element("p", line.lyrics), *heard)))
    return table(("time", "score", "lyrics, and what each ear heard"), rows, numeric=(0, 1), wordy=(2,))


def _method(song: SongPrediction) -> tuple[object, ...]:
    models = ", ".join(song.whisper_models)
    many = "models" if len(song.whisper_models) > 1 else "model"
    said = [
        f"Each ear of each line was heard by the Whisper {many} {models}; the checkpoint {song.checkpoint} makes of it "
        "a probability for each word, learnt from listeners of the Cadenza CLIP1 challenge who wrote down what they "
        "heard in excerpts of songs. The score is the mean over the words.",
        f"The interval holds the score of one listener with a probability of {INTERVAL:.0%}. It is wide because "
        "listeners differ: scores compare lines, mixes and severities better than they foretell one person's answer.",
    ]
    if song.simulated:
        said.append(
            "The hearing losses were simulated with the Cambridge model (MSBG, pyclarity) and its mild and moderate "
            f"audiograms, the song being played at {song.level_db_spl:g} dB SPL."
        )
    return (*said, *(note(text) for text in song.notes))


def _legend() -> Html:
    return heat_words(["0", "25", "50", "75", "100"], [0.0, 0.25, 0.5, 0.75, 1.0])


def _extremes(song: SongPrediction, name: str) -> tuple[float, float]:
    scores = [line.at(name).score for line in song.lines]
    return min(scores), max(scores)


def _ends(severity: HearingLossPrediction) -> str:
    return f"{severity.low:.0f} to {severity.high:.0f}"


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _id(hearing_loss: str) -> str:
    return hearing_loss.lower().replace(" ", "-")
