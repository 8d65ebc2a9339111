# What bash reads in JupyterLab's terminal (see lab.py): the user's own start file, then the environment's Python first.
# Many a .bashrc puts conda or pyenv before everything that PATH had.
[ -f ~/.bashrc ] && . ~/.bashrc
PATH="$TUTORIAL_BIN:$PATH"
