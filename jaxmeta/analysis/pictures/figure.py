"""The figures of `jaxmeta.show`: panels in a table, and one after the other."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxmeta.evaluation.scenes import Scene
from jaxmeta.render.figures import write_png
from jaxmeta.runtime.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_FRAMES = 80
_MILLISECONDS, _LAST_MILLISECONDS = 160, 1200  # for which a frame stays, and the last one


def draw_still(scene: Scene, title: str) -> Figure:
    """Draws a line per task and a column per row of adaptation."""
    from matplotlib.figure import Figure

    columns = len(scene.columns)
    wide = 7.0 if columns == 1 else 2.6 * columns + 0.6
    figure = Figure(layout="constrained")
    table = figure.subplots(scene.tasks, columns, squeeze=False)
    for task, line in enumerate(table):
        for axes, row in zip(line, scene.columns, strict=True):
            scene.panel(axes, task, row, scene.last)
            if task == 0:
                axes.set_title(scene.says(row), fontsize="medium")
        _same_limits(line)
    for task, line in enumerate(table):
        for column, axes in enumerate(line):
            if task < scene.tasks - 1:
                axes.set_xlabel("")
            axes.set_ylabel(f"task {task + 1}\n{axes.get_ylabel()}" if column == 0 else "")
    panels = [axes for line in table for axes in line]
    figure.set_size_inches(wide, 0.7 + scene.tasks * min(2.5, 0.7 + 2.2 * _tallest(panels)))
    _same_greys(panels, _greys(panels))
    _key(figure, panels)
    figure.suptitle(title)
    return figure


def write_still(scene: Scene, title: str, path: Path) -> None:
    """Writes `draw_still` as a PNG, whole or not at all."""
    write_png(draw_still(scene, title), path)


def write_animation(scene: Scene, title: str, path: Path) -> None:
    """Writes a GIF, whole or not at all: tasks side by side, frame after frame."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image  # matplotlib needs it, too

    figure = Figure(layout="constrained", dpi=70)
    canvas = FigureCanvasAgg(figure)
    line = figure.subplots(1, scene.tasks, squeeze=False)[0]
    limits = [_limits(scene, axes, task) for task, axes in enumerate(line)]
    wide = (6.0 if len(scene.columns) == 1 else 3.2) * scene.tasks
    figure.set_size_inches(wide, min(4.2, 1.5 + 2.6 * _tallest(line)))
    greys = _greys(line)
    _key(figure, line)
    _arrange(figure, line, f"{title}: {scene.says(scene.columns[-1])}")
    every = math.ceil(len(scene.frames) / _MOST_FRAMES)
    images = []
    for row, until in [*scene.frames[:-1:every], scene.frames[-1]]:
        for task, axes in enumerate(line):
            axes.clear()
            scene.panel(axes, task, row, until)
            axes.set_xlim(limits[task][0])
            axes.set_ylim(limits[task][1])
            axes.set_title(f"task {task + 1}", fontsize="medium")
        _same_greys(line, greys)
        figure.suptitle(f"{title}: {scene.says(row)}")
        canvas.draw()
        images.append(Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB"))
    shown = [_MILLISECONDS] * (len(images) - 1) + [_LAST_MILLISECONDS]
    buffer, first = io.BytesIO(), images[0]
    first.save(buffer, "GIF", save_all=True, append_images=images[1:], duration=shown, loop=0)
    write_atomically(path, buffer.getvalue())


def _arrange(figure: Figure, line: Sequence[Any], title: str) -> None:
    """Gives all parts their places for good: frames whose panels move are hard to follow."""
    figure.suptitle(title)
    for task, axes in enumerate(line):
        axes.set_title(f"task {task + 1}", fontsize="medium")
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def _tallest(panels: Sequence[Any]) -> float:
    """Returns the height of a panel over its width: above 1 where that is free."""
    if any(axes.get_aspect() == "auto" for axes in panels):
        return math.inf
    return max(float(np.ptp(axes.get_ylim()) / np.ptp(axes.get_xlim())) for axes in panels)


def _limits(scene: Scene, axes: Any, task: int) -> tuple[Any, Any]:
    """Draws all that a task will show, and returns limits that hold it."""
    for row in scene.columns:
        scene.panel(axes, task, row, scene.last)
    return axes.get_xlim(), axes.get_ylim()


def _same_limits(line: Any) -> None:
    ends = [(*axes.get_xlim(), *axes.get_ylim()) for axes in line]
    left, right, bottom, top = zip(*ends, strict=True)
    for axes in line:
        axes.set_xlim(min(left), max(right))
        axes.set_ylim(min(bottom), max(top))


def _greys(panels: Sequence[Any]) -> tuple[float, float] | None:
    """Returns the ends of a scale that holds those of all images; None without images."""
    ends = [image.get_clim() for axes in panels for image in axes.images]
    return (min(low for low, _ in ends), max(high for _, high in ends)) if ends else None


def _same_greys(panels: Sequence[Any], ends: tuple[float, float] | None) -> None:
    for axes in panels:
        for image in axes.images:
            image.set_clim(ends)


def _key(figure: Figure, panels: Sequence[Any]) -> None:
    """Says below the panels what marks mean, and beside them what greys do."""
    from matplotlib.cm import ScalarMappable

    found = [axes.get_legend_handles_labels() for axes in panels]
    said = {
        x: handle for handles, labels in found for handle, x in zip(handles, labels, strict=True)
    }
    if said:
        style: dict[str, Any] = {"ncols": 4, "frameon": False}
        figure.legend(list(said.values()), list(said), loc="outside lower center", **style)
    images = [image for axes in panels for image in axes.images]
    if images:
        scale = ScalarMappable(cmap=images[0].get_cmap())
        scale.set_clim(_greys(panels))
        bar: Any = figure.colorbar(scale, ax=list(panels), label=images[0].get_label(), aspect=25)
        bar.solids.set_alpha(images[0].get_alpha())
