import tensorflow as tf

# Define a simple sequential model
model = tf.keras.models.Sequential([
    tf.keras.layers.Dense(128, activation='relu', input_shape=(784,)),
    tf.keras.layers.Dense(10, activation='softmax')
])

# Compile the model
model.compile(optimizer='adam',
              loss='sparse_categorical_crossentropy',
              metrics=['accuracy'])

# Train the model
import numpy as np # Use numpy to make data that doesn't cause runtime issues.
dummy_data = np.random.rand(100,784) # Create random data.
dummy_labels = np.random.randint(0,9,100) # Create random labels.
model.fit(dummy_data, dummy_labels, epochs=2) # Train with dummy data.

# Save the model to a directory named 'my_basic_model'
model.save('my_basic_model')
