"""The unpaired GAN training of DEvUDP, its evaluation and export (installed as devudp_training)."""
