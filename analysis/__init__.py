"""What a run's weights mean: each module answers one question about them.

``ess`` how many trajectories still count, ``concentration`` who holds the mass, ``histograms`` how
each source's weights are spread, ``alignment`` whether the weighted synthetic set lies nearer to
the real one, ``attribution`` what explains the variance of the weights, ``correlations`` and
``associations`` whether length does, ``quality`` whether heavy rows are good ones and whether a
shortcut would have found them too (``shortcuts``, ``discrimination``, ``calibration``),
``bound`` what can be promised of the trained model and what only estimated, ``excerpts`` how a
trajectory reads in one line, ``report`` all of it as one set of facts, which ``story`` puts into
sentences, ``figures`` into pictures, and ``markdown``, ``html`` and ``plots`` show. Results are
`facts`; intervals come of `resampling` by task.
"""
