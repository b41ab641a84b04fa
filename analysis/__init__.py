"""What a run's weights mean: each module answers one question about them.

``ess`` how many trajectories still count, ``alignment`` whether the weighted synthetic set lies
nearer to the real one, ``correlations`` whether length explains the weights, ``excerpts`` how a
trajectory reads in one line, ``report`` all of it as one set of facts.
"""
