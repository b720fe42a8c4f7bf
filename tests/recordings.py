"""Recordings for tests, made when they run: no voice is kept in the repository."""

import numpy as np
from scipy.io import wavfile


def speak(folder, *, speakers=("ann", "bob", "cy"), words=("no", "yes"), takes=8, rate=8000):
    """Tones of a pitch a word and speaker, under the names of recordings."""
    folder.mkdir(parents=True, exist_ok=True)
    for at, word in enumerate(words):
        for who, speaker in enumerate(speakers):
            for take in range(takes):
                time = np.arange(rate // 10 + take) / rate
                signal = np.sin(2 * np.pi * (300 + 500 * at + 20 * who) * time) * (0.2 + 0.1 * take)
                wavfile.write(folder / f"{word}_{speaker}_{take}.wav", rate, (signal * 20000).astype(np.int16))
    return folder
